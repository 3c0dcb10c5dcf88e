"""The backbone by a policy gradient over the denoising trajectory.

Denoising is a decision process: a state is a row with masks, an action the tokens that a step
writes there, drawn from the backbone's own distributions. (Clipped ratios and advantages relative
to the prompt's other episodes: Schulman et al. 2017, arXiv 1707.06347; Shao et al. 2024, arXiv
2402.03300. One constant divisor for all rows, which a row's own count of tokens would bias: Liu et
al. 2025, arXiv 2503.20783, section 3.)
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from reoac_jax.backbone.likelihood import TokenStatistics
from reoac_jax.config.parameters import parameter
from reoac_jax.learning.advantages import Estimator, GradedEpisodes
from reoac_jax.learning.losses import clipped_surrogate, kl_estimate
from reoac_jax.learning.objectives.base import BackboneObjective, Loss
from reoac_jax.learning.replay import BackboneBatch, Episodes
from reoac_jax.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class Trajectory(BackboneObjective):
    """Sum over the written tokens of -min(r A, clip(r) A) + kl_weight KL - entropy_weight H.

    r is the ratio of a token's probability now to that with which it was drawn; the sum of a
    minibatch is divided by its transitions times the tokens of a step of scale 1.

    Where the operator was drawn too, the step's log-probability is the sum of the operator's and
    the tokens', and so is its gradient: the operator's part moves the actor, by its own objective
    on the same episodes, the tokens' part moves the backbone here. The ratios are clipped apart.
    """

    name: ClassVar[str] = "trajectory"
    on_policy: ClassVar[bool] = True
    drawn: ClassVar[bool] = True
    clip_ratio: float = parameter(0.2, "bound on the ratio", low=1e-4, high=10.0)
    kl_weight: float = parameter(
        0.0, "weight of the KL to the weights at the start; 0: not measured", low=0.0, high=100.0
    )
    entropy_weight: float = parameter(
        0.0, "weight of the entropy of what is written", low=0.0, high=10.0
    )

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        if values["rollout.sample_strategy"] != "sample":
            raise InputError(
                f"rollout.sample_strategy is {values['rollout.sample_strategy']}; expected sample, "
                "for objective.backbone trajectory needs the probability with which a token was "
                "drawn"
            )
        if values["rollout.branch_k"]:
            raise InputError(
                f"rollout.branch_k is {values['rollout.branch_k']}; expected 0, for "
                "objective.backbone trajectory knows no probability of what a look-ahead chooses"
            )
        group = values["train.episodes_per_prompt"]
        if group < 2 and values["objective.advantage"] == "group":
            raise InputError(
                f"train.episodes_per_prompt is {group}; expected 2 or more, or objective.advantage "
                "critic, for objective.backbone trajectory compares the episodes of a prompt"
            )

    @property
    def measures_start(self) -> bool:
        return self.kl_weight > 0

    def advantages(self, episodes: GradedEpisodes, estimate: Estimator) -> np.ndarray:
        return estimate(episodes)

    def target(self, episodes: Episodes, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        """What the step wrote: it stands there before the next one, or at the end."""
        last = episodes.active.shape[1] - 1
        following = np.minimum(step + 1, last)
        goes_on = (step < last) & episodes.active[episode, following]
        later = episodes.tokens[episode, following]
        return np.where(goes_on[:, None], later, episodes.final[episode])

    def shares(self, written: jax.Array, real: jax.Array, a_step: float) -> jax.Array:
        """The same for every written token, however many its row has."""
        return written * real[:, None] / jnp.maximum(real.sum() * a_step, 1.0)

    def loss(
        self, tokens: TokenStatistics, batch: BackboneBatch[jax.Array], share: jax.Array
    ) -> Loss:
        counts = share > 0
        # Elsewhere the target may be the mask, of log-probability -inf.
        change = jnp.where(counts, tokens.log_prob - batch.log_prob, 0.0)
        ratio = jnp.exp(change)
        surrogate = clipped_surrogate(ratio, batch.advantage[:, None], self.clip_ratio)
        held = self.kl_weight * tokens.kl - self.entropy_weight * tokens.entropy
        metrics = {
            "backbone_clip_fraction": jnp.abs(ratio - 1.0) > self.clip_ratio,
            "backbone_update_kl": kl_estimate(ratio),
        }
        if self.measures_start:
            metrics["backbone_kl"] = tokens.kl
        return Loss(((held - surrogate) * share).sum(), metrics)
