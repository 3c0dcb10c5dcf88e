"""As many as their entropies' sum allows."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.interface import AdaptiveSampler, Move, View


@dataclasses.dataclass(frozen=True)
class EntropyBound(AdaptiveSampler):
    """The first k of M by ascending H_i, k the number of j with sum over j' < j of H_(j') <= gamma.

    The sum bounds what writing k tokens independently can lose. The first position's is empty, so
    that k is 1 at least. Published on whole rows; blocks are ours.
    """

    name: ClassVar[str] = "entropy_bound"
    source: ClassVar[str] = "Ben-Hamu et al. 2025 (EB-Sampler), arXiv 2505.24857"

    gamma: float = parameter(0.1, "nats that the positions before may hold", low=0.0, high=1e6)

    def step(self, view: View) -> Move:
        entropy = view.proposal.entropy
        ascending = jnp.sort(jnp.where(view.masked, entropy, jnp.inf))
        before = jnp.concatenate([jnp.zeros(1), jnp.cumsum(ascending)[:-1]])
        count = ((before <= self.gamma) & jnp.isfinite(ascending)).sum()
        return Move(view.best(-entropy, count))
