"""What the two likelihood objectives of the backbone share: an advantage-weighted cross-entropy."""

import dataclasses

import jax
import jax.numpy as jnp

from reoac_jax.backbone.likelihood import TokenStatistics
from reoac_jax.config.parameters import parameter
from reoac_jax.learning.objectives.base import BackboneObjective, Loss
from reoac_jax.learning.replay import BackboneBatch


@dataclasses.dataclass(frozen=True)
class WeightedLikelihood(BackboneObjective):
    """mean of -A log p(target) over the written positions of a minibatch."""

    advantage_positive: bool = parameter(
        True, "no update away from failed episodes: the advantage is 0 there"
    )
    advantage_clip: float = parameter(0.0, "bound on |advantage|; 0: none", low=0.0, high=1e4)

    def bounded(self, advantage: jax.Array) -> jax.Array:
        """The advantage float32 `[N]`, floored at 0 and clipped as the settings say."""
        advantage = jnp.maximum(advantage, 0.0) if self.advantage_positive else advantage
        bound = self.advantage_clip
        return jnp.clip(advantage, -bound, bound) if bound > 0 else advantage

    def loss(
        self, tokens: TokenStatistics, batch: BackboneBatch[jax.Array], share: jax.Array
    ) -> Loss:
        # Elsewhere the target may be the mask, whose log-probability is -inf.
        log_probs = jnp.where(share > 0, tokens.log_prob, 0.0)
        weighted = log_probs * self.bounded(batch.advantage)[:, None] * share
        return Loss(-weighted.sum(), {})
