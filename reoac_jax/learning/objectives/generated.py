"""The backbone towards what it wrote itself, where that went better than its other attempts."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from reoac_jax.learning.advantages import Estimator, GradedEpisodes, GroupRelative
from reoac_jax.learning.objectives.weighted_likelihood import WeightedLikelihood
from reoac_jax.learning.replay import Episodes
from reoac_jax.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class Generated(WeightedLikelihood):
    """Cross-entropy to the episode's final tokens, weighted relative to the prompt's others.

    A reference is one solution of several, and contradicts a text that has begun another.
    """

    name: ClassVar[str] = "generated"

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        if values["train.episodes_per_prompt"] < 2:
            raise InputError(
                "train.episodes_per_prompt is 1; expected 2 or more, for objective.backbone "
                "generated compares the episodes of a prompt, and learns nothing from one"
            )

    def advantages(self, episodes: GradedEpisodes, estimate: Estimator) -> np.ndarray:
        relative = isinstance(estimate, GroupRelative)
        return (estimate if relative else GroupRelative(estimate.floor))(episodes)

    def target(self, episodes: Episodes, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        return episodes.final[episode]
