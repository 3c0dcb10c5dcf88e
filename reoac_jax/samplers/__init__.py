"""Samplers: denoising in an order that a fixed rule decides, without the operator policy."""

from reoac_jax.samplers.loop import Sampled, sample
from reoac_jax.samplers.rules import RULES

__all__ = ["RULES", "Sampled", "sample"]
