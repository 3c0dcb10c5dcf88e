"""By entropy, with an even quota."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.samplers.even_quota import EvenQuotaSampler
from reoac_jax.samplers.interface import View


@dataclasses.dataclass(frozen=True)
class Entropy(EvenQuotaSampler):
    """The lowest entropy H_i of the token distribution."""

    name: ClassVar[str] = "entropy"
    source: ClassVar[str] = "Dream, arXiv 2508.15487"

    def score(self, view: View) -> jax.Array:
        return -view.proposal.entropy
