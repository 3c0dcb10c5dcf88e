"""From left to right, as far as the confidence reaches."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.interface import AdaptiveSampler, Move, View


@dataclasses.dataclass(frozen=True)
class PrefixThreshold(AdaptiveSampler):
    """From the first mask on, the longest run with c_i > threshold, one position at least.

    Given tokens inside the run neither stop it nor count.
    """

    name: ClassVar[str] = "prefix_threshold"
    source: ClassVar[str] = "this project"

    threshold: float = parameter(0.97, "confidence that goes on", low=0.0, high=1.0)

    def step(self, view: View) -> Move:
        first = view.masked & (jnp.cumsum(view.masked) == 1)
        stops = view.masked & ~(view.proposal.confidence > self.threshold) & ~first
        return Move(view.masked & (jnp.cumsum(stops) == 0))
