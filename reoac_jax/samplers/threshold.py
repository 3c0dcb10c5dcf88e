"""Everything that is confident enough."""

import dataclasses
from typing import ClassVar

from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.interface import AdaptiveSampler, Move, View


@dataclasses.dataclass(frozen=True)
class Threshold(AdaptiveSampler):
    """Every i in M with c_i > threshold, and always the one of largest c_i.

    Departure: the published code reveals c_i >= threshold.
    """

    name: ClassVar[str] = "threshold"
    source: ClassVar[str] = "NVlabs/Fast-dLLM, arXiv 2505.22618"

    block_len: int = parameter(32, "positions of a block; 0: the whole row", low=0, high=65536)
    threshold: float = parameter(0.9, "confidence that reveals", low=0.0, high=1.0)

    def step(self, view: View) -> Move:
        confidence = view.proposal.confidence
        confident = view.masked & (confidence > self.threshold)
        return Move(confident | view.best(confidence, 1))
