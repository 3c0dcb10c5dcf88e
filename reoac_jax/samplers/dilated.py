"""Far apart first: each round halves the distance between the positions revealed."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from reoac_jax.samplers.interface import AdaptiveSampler, Move, View


@dataclasses.dataclass(frozen=True)
class Dilated(AdaptiveSampler):
    """Round t of R reveals the k with (k - 1) mod max(1, floor(B / 2^t)) = 0, round R the rest.

    k counts from 1 in a block of B positions (the last one's own length); R = max(1, ceil(log2 B)).
    The positions revealed depend on nothing but their places. A round that finds nothing masked is
    passed over and not counted.
    """

    name: ClassVar[str] = "dilated"
    source: ClassVar[str] = "Luxembourg et al. 2025 (DUS), arXiv 2506.19037"

    def step(self, view: View) -> Move:
        rounds = jnp.asarray(self._rounds(view.masked.shape[0]))
        due = jnp.where(view.masked, rounds, jnp.iinfo(jnp.int32).max).min()
        return Move(view.masked & (rounds == due))

    def _rounds(self, gen_len: int) -> np.ndarray:
        """int32 `[G]`: the round that reveals each position."""
        size = self.block_len or gen_len
        result = np.zeros(gen_len, np.int32)
        for start in range(0, gen_len, size):
            length = min(size, gen_len - start)
            last = max(1, math.ceil(math.log2(length)))
            for k in range(length):
                rounds = (t for t in range(1, last) if k % max(1, length >> t) == 0)
                result[start + k] = next(rounds, last)
        return result
