"""Samplers: denoising in an order that a fixed rule decides, without the operator policy.

One file each, found by listing this folder (docs/samplers.md); `G` generated positions.
"""

import sys
from collections.abc import Mapping

from reoac_jax.config.parameters import members
from reoac_jax.samplers.interface import Move, Sampler, View
from reoac_jax.samplers.loop import Sampled, sample

__all__ = ["SAMPLERS", "Move", "Sampled", "Sampler", "View", "sample"]

SAMPLERS: Mapping[str, type[Sampler]] = members(
    sys.modules[__name__],
    Sampler,  # type: ignore[type-abstract]
)
