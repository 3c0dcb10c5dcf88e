"""The actor by a clipped policy gradient (Schulman et al. 2017, arXiv 1707.06347, equation 7)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from reoac_jax.config.parameters import parameter
from reoac_jax.learning.advantages import Estimator, GradedEpisodes
from reoac_jax.learning.losses import clipped_surrogate, kl_estimate, mean
from reoac_jax.learning.objectives.base import ActorObjective, Loss
from reoac_jax.learning.replay import HeadBatch
from reoac_jax.policy.distributions import Distribution
from reoac_jax.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class PolicyGradient(ActorObjective):
    """-mean min(r A, clip(r, 1 +- clip_ratio) A) - entropy_weight * H, r the picks' ratio.

    Of a pick of positions the probability is that of all its bits together, and so are H and r.
    """

    name: ClassVar[str] = "policy_gradient"
    on_policy: ClassVar[bool] = True
    clip_ratio: float = parameter(0.2, "bound on the ratio", low=1e-4, high=10.0)
    entropy_weight: float = parameter(0.003, "weight of the entropy", low=0.0, high=10.0)

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        group = values["train.episodes_per_prompt"]
        if group < 2 and values["objective.advantage"] == "group":
            raise InputError(
                f"train.episodes_per_prompt is {group}; expected 2 or more,"
                " for objective.actor policy_gradient compares the episodes of a prompt"
            )
        if values["rollout.selection_mode"] == "argmax":
            raise InputError(
                "rollout.selection_mode is argmax; expected sample, for objective.actor "
                "policy_gradient needs the probability of what was picked"
            )

    def advantages(self, episodes: GradedEpisodes, estimate: Estimator) -> np.ndarray:
        return estimate(episodes)

    def loss(
        self,
        policy: Distribution,
        q: jax.Array | None,
        batch: HeadBatch[jax.Array],
        real: jax.Array,
    ) -> Loss:
        """Over the picks that were the actor's alone to make."""
        decided = real * batch.decided
        ratio = jnp.exp(policy.log_prob(batch.chosen) - batch.log_prob)
        surrogate = clipped_surrogate(ratio, batch.advantage, self.clip_ratio)
        bonus = mean(policy.entropy(), decided)
        return Loss(
            -mean(surrogate, decided) - self.entropy_weight * bonus,
            {
                "actor_kl": mean(kl_estimate(ratio), decided),
                "actor_clip_fraction": mean(jnp.abs(ratio - 1.0) > self.clip_ratio, decided),
            },
        )
