"""The original's backbone: towards the reference answer, position by position."""

import dataclasses
from typing import ClassVar

import numpy as np

from reoac_jax.learning.advantages import Estimator, GradedEpisodes
from reoac_jax.learning.objectives.weighted_likelihood import WeightedLikelihood
from reoac_jax.learning.replay import Episodes


@dataclasses.dataclass(frozen=True)
class Reference(WeightedLikelihood):
    """Cross-entropy to the reference tokens, weighted by the return."""

    name: ClassVar[str] = "reference"

    def advantages(self, episodes: GradedEpisodes, estimate: Estimator) -> np.ndarray:
        return np.broadcast_to(episodes.returns[:, None], episodes.active.shape)

    def target(self, episodes: Episodes, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        return episodes.reference[episode]
