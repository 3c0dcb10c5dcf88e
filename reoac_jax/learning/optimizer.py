"""The optimiser of every update, in training and in fine-tuning."""

import jax
import optax


def clipped_adamw(
    rate: optax.ScalarOrSchedule, weight_decay: float, gradient_clip: float, b2: float = 0.999
) -> optax.GradientTransformation:
    """AdamW behind a clip of the global norm.

    Matrices decay; norms and biases, which have one axis, do not.

    Args:
      rate: learning rate, or its schedule by step. gradient_clip: the bound; 0: no clip.
      b2: decay of the second moment; optax's default where none is given.
    """
    adamw = optax.adamw(
        rate,
        b2=b2,
        weight_decay=weight_decay,
        mask=lambda weights: jax.tree.map(lambda x: x.ndim > 1, weights),
    )
    if gradient_clip == 0:
        return adamw
    return optax.chain(optax.clip_by_global_norm(gradient_clip), adamw)
