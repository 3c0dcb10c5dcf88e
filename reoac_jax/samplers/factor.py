"""As many as are confident enough for so many at once."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.interface import AdaptiveSampler, Move, View


@dataclasses.dataclass(frozen=True)
class Factor(AdaptiveSampler):
    """The first k of M by c_i, k the number of ranks r from 1 with c_(r) >= 1 - factor / (r + 1).

    k is 1 at least. Departures: the published code counts up to the first rank that fails, and
    reveals one position too many when only the last one fails.
    """

    name: ClassVar[str] = "factor"
    source: ClassVar[str] = "NVlabs/Fast-dLLM, arXiv 2505.22618"

    block_len: int = parameter(32, "positions of a block; 0: the whole row", low=0, high=65536)
    factor: float = parameter(1.0, "f: the higher, the more at once", low=0.0, high=1000.0)

    def step(self, view: View) -> Move:
        confidence = view.proposal.confidence
        descending = -jnp.sort(jnp.where(view.masked, -confidence, jnp.inf))
        rank = jnp.arange(1, len(descending) + 1)
        enough = (descending >= 1.0 - self.factor / (rank + 1)) & (rank <= view.masked.sum())
        return Move(view.best(confidence, jnp.maximum(enough.sum(), 1)))
