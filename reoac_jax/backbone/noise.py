"""The noise level that a time-conditioned backbone is told, in training and in denoising."""

import jax
import jax.numpy as jnp

_EPSILON = 1e-3  # MDLM's: keeps the noise level finite at t = 1


def noise_level(t: jax.Array) -> jax.Array:
    """sigma = -log(1 - (1 - 1e-3) t) of the share t that is masked: 0 at none, 6.9 at all.

    The log-linear schedule of MDLM (Sahoo et al. 2024, arXiv 2406.07524, and its published code).
    """
    return -jnp.log1p(-(1.0 - _EPSILON) * t)
