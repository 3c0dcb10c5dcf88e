"""Top-k confidence decoding: at each step the tokens that the model is surest of are revealed."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import TokenPrediction

# (generated int32 [B, G], step int32 []) -> TokenPrediction [B, G]: one forward pass.
PredictFn = Callable[[jax.Array, jax.Array], TokenPrediction]


def confidence_decode(
    predict: PredictFn, generated: jax.Array, mask_id: int, steps: int
) -> jax.Array:
    """Reveals ceil(masked / steps left) of each row's masked positions a step, the surest first.

    A revealed token stays. Ties go to the earlier position.

    Args:
      predict: the model, under SUBS: it never proposes the mask.
      generated: int32 `[B, G]`, with masks where something is to be written.
      steps: forward passes, at least 1; static.

    Returns:
      int32 `[B, G]` without masks.
    """

    def advance(step: jax.Array, generated: jax.Array) -> jax.Array:
        proposal = predict(generated, step)
        masked = generated == mask_id
        left = steps - step
        quota = (masked.sum(axis=1) + left - 1) // left
        order = jnp.argsort(jnp.where(masked, -proposal.confidence, 1.0), axis=1, stable=True)
        rank = jnp.argsort(order, axis=1)
        reveal = masked & (rank < quota[:, None])
        return jnp.where(reveal, proposal.token, generated)

    return jax.lax.fori_loop(0, steps, advance, generated)
