"""O_CONFIDENT: where the model is surest, anywhere in the row."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.policy.operators.interface import (
    Operator,
    View,
    most_tokens,
    reveals_above,
)
from reoac_jax.policy.ranking import lowest


@dataclasses.dataclass(frozen=True)
class Confident(Operator):
    """The positions of the frontier whose proposals are the most probable.

    (Confidence decoding as one of the actor's choices: MaskGIT, arXiv 2202.04200; with `threshold`
    below 1 that of Fast-dLLM, arXiv 2505.22618.)
    """

    name: ClassVar[str] = "O_CONFIDENT"

    max_tokens: int = most_tokens()
    threshold: float = reveals_above(0.9)

    def select(self, view: View) -> jax.Array:
        return lowest(-view.confidence, view.frontier, self.max_tokens)
