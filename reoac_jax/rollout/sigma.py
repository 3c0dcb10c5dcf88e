"""The noise level that a time-conditioned backbone is told of a row (DESIGN.md, section 3)."""

import jax
import jax.numpy as jnp

from reoac_jax.backbone.noise import noise_level
from reoac_jax.rollout.settings import RolloutSettings


def sigma_of(generated: jax.Array, step: jax.Array, settings: RolloutSettings) -> jax.Array:
    """float32 `[B]`: sigma of rows whose generated tokens are int32 `[B, G]`, at steps int32 `[B]`.

    By `masked_share` what training has taught the backbone: that of the share of positions that are
    masked. By `schedule` the original's, which the step alone decides.
    """
    if settings.sigma == "schedule":
        return _scheduled(step, settings)
    return noise_level((generated == settings.mask_id).mean(axis=-1, dtype=jnp.float32))


def _scheduled(step: jax.Array, settings: RolloutSettings) -> jax.Array:
    """From `sigma_max` to `sigma_min` over the steps; `sigma_max` if there is but one."""
    low, high = settings.sigma_min, settings.sigma_max
    share = step / jnp.float32(max(settings.max_steps - 1, 1))
    if settings.sigma_schedule == "cosine":
        return low + (high - low) * (1.0 + jnp.cos(jnp.pi * share)) / 2.0
    return high + (low - high) * share
