"""By entropy, with an even quota."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.even_quota import EvenQuotaSampler
from reoac_jax.samplers.interface import View


@dataclasses.dataclass(frozen=True)
class Entropy(EvenQuotaSampler):
    """The lowest entropy H_i of the token distribution.

    With `drawn_entropy` that of the distribution the token is drawn from, after temperature and
    top-p, as in Dream's own code; where the nucleus is a single token it is 0. Departures: that
    code leaves the order of equal entropies to the sort, and reveals floor(k (1 - s/t)) of k masked
    positions on a grid of times from 1 to 0.001: with a step for each token, none in the first step
    and two in the last.
    """

    name: ClassVar[str] = "entropy"
    source: ClassVar[str] = "Dream, arXiv 2508.15487"

    drawn_entropy: bool = parameter(False, "H_i after temperature and top-p")

    def draw(self, configured: DrawSettings) -> DrawSettings:
        return dataclasses.replace(super().draw(configured), drawn_entropy=self.drawn_entropy)

    def score(self, view: View) -> jax.Array:
        return -view.proposal.entropy
