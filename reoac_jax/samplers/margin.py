"""By the gap between the two most probable tokens, with an even quota."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.backbone.draw import DrawSettings, measured
from reoac_jax.samplers.even_quota import EvenQuotaSampler
from reoac_jax.samplers.interface import View


@dataclasses.dataclass(frozen=True)
class Margin(EvenQuotaSampler):
    """The largest gap between the two highest probabilities of p_i."""

    name: ClassVar[str] = "margin"
    source: ClassVar[str] = "Kim et al. 2025, arXiv 2502.06768"

    def draw(self, configured: DrawSettings) -> DrawSettings:
        return dataclasses.replace(super().draw(configured), margin=True)

    def score(self, view: View) -> jax.Array:
        return measured(view.proposal.margin)
