"""By confidence, with an even quota."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.samplers.even_quota import EvenQuotaSampler
from reoac_jax.samplers.interface import View


@dataclasses.dataclass(frozen=True)
class Confidence(EvenQuotaSampler):
    """The positions whose proposed token is the most probable: largest c_i."""

    name: ClassVar[str] = "confidence"
    source: ClassVar[str] = "MaskGIT, arXiv 2202.04200 (its quota is even here)"

    def score(self, view: View) -> jax.Array:
        return view.proposal.confidence
