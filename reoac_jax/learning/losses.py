"""What the losses are made of (DESIGN.md, section 10), each a pure function of arrays.

`N` transitions, `A` operators, `G` generated positions. `weight` is 1 for a transition that counts
and 0 for padding; every mean is over the ones that count.
"""

import jax
import jax.numpy as jnp


def critic_loss(
    q: jax.Array, operator: jax.Array, returns_to_go: jax.Array, weight: jax.Array
) -> jax.Array:
    """mean (Q(s, a) - G)^2 of the operators that were charged.

    Args:
      q: float32 `[N, A]`. operator: int32 `[N]`. returns_to_go, weight: float32 `[N]`.
    """
    taken = jnp.take_along_axis(q, operator[:, None], axis=-1)[:, 0]
    return mean(jnp.square(taken - returns_to_go), weight)


def clipped_surrogate(ratio: jax.Array, advantage: jax.Array, clip_ratio: float) -> jax.Array:
    """min(r A, clip(r, 1 +- clip_ratio) A), elementwise (PPO).

    (Schulman et al. 2017, arXiv 1707.06347, equation 7.)
    """
    clipped = jnp.clip(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    return jnp.minimum(ratio * advantage, clipped * advantage)


def kl_estimate(ratio: jax.Array) -> jax.Array:
    """(r - 1) - log r: its mean over draws from the old distribution is KL(old || new), nats.

    Elementwise, r = new / old. (Schulman 2020, "Approximating KL divergence", estimator k3.)
    """
    return ratio - 1.0 - jnp.log(ratio)


def position_shares(written: jax.Array, weight: jax.Array) -> jax.Array:
    """float32 `[N, G]`: each position's share in the mean over all written ones; they sum to 1.

    Args:
      written: bool `[N, G]`. weight: float32 `[N]`.
    """
    counts = written * weight[:, None]
    return counts / jnp.maximum(counts.sum(), 1.0)


def mean(values: jax.Array, weight: jax.Array) -> jax.Array:
    """The weighted mean, float32 `[]`; 0 where nothing counts."""
    weight = weight.astype(jnp.float32)
    return (values * weight).sum() / jnp.maximum(weight.sum(), 1.0)
