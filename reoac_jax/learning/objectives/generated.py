"""The backbone towards what it wrote itself, where that went better than its other attempts."""

import dataclasses
from typing import ClassVar

import numpy as np

from reoac_jax.learning.advantages import Estimator, GradedEpisodes, GroupRelative
from reoac_jax.learning.objectives.weighted_likelihood import WeightedLikelihood
from reoac_jax.learning.replay import Episodes


@dataclasses.dataclass(frozen=True)
class Generated(WeightedLikelihood):
    """Cross-entropy to the episode's final tokens, weighted relative to the prompt's others.

    A reference is one solution of several, and contradicts a text that has begun another.
    """

    name: ClassVar[str] = "generated"

    def advantages(self, episodes: GradedEpisodes, estimate: Estimator) -> np.ndarray:
        return GroupRelative()(episodes)

    def target(self, episodes: Episodes, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        return episodes.final[episode]
