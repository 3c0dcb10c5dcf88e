"""What an objective is: a frozen dataclass with its own settings, an advantage and a loss.

`E` episodes of `T` steps, `N` transitions, `A` operators, `G` generated positions.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax
import numpy as np

from reoac_jax.config.parameters import Parametric
from reoac_jax.learning.advantages import Estimator, GradedEpisodes
from reoac_jax.learning.replay import BackboneBatch, Episodes, HeadBatch


class Loss(NamedTuple):
    """value: float32 `[]`. metrics: float32 `[]` each, by the name that metrics.jsonl has."""

    value: jax.Array
    metrics: dict[str, jax.Array]


class Objective(Parametric):
    """A member is a frozen dataclass in a file of its own; its fields are made by `parameter`.

    The configuration holds them as `objective.<name>.<field>`.

    name: as the configuration has it. on_policy: its minibatches come from the present iteration's
    episodes alone, else from the whole buffer.
    """

    on_policy: ClassVar[bool] = False

    @classmethod
    def from_config(cls, objective: Any) -> Self:
        """With the parameters that a validated configuration's section `objective` gives it."""
        return cls(**{name: objective[cls.name][name] for name in cls.parameters()})

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> None:
        """Raises `InputError` where a flat configuration that names this objective cannot serve it.

        values: `"rollout.max_steps"` to its value, each legal alone.
        """

    def advantages(self, episodes: GradedEpisodes, estimate: Estimator) -> np.ndarray:
        """float32 `[E, T]`, what each step was worth; zeros for an objective that reads none.

        estimate: the estimator that `objective.advantage` names.
        """
        return np.zeros(episodes.active.shape, np.float32)


class ActorObjective(Objective, abc.ABC):
    """What the actor follows."""

    @abc.abstractmethod
    def loss(
        self, logits: jax.Array, q: jax.Array, batch: HeadBatch[jax.Array], real: jax.Array
    ) -> Loss:
        """The mean over the transitions that are no padding.

        Args:
          logits, q: float32 `[N, A]`, the actor's now and the critic's, which is held fixed.
          real: float32 `[N]`, 0 for padding.
        """


class BackboneObjective(Objective, abc.ABC):
    """What the backbone follows, at the positions that a step wrote.

    dropout: whether the training model's dropout is on.
    """

    dropout: ClassVar[bool] = True

    @abc.abstractmethod
    def target(self, episodes: Episodes, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        """int32 `[N, G]`: the tokens whose probability the loss reads.

        episode, step: int `[N]`, which transitions.
        """

    @abc.abstractmethod
    def loss(self, log_probs: jax.Array, batch: BackboneBatch[jax.Array], share: jax.Array) -> Loss:
        """The loss of a part of a minibatch; those of the parts add up, and so do the metrics.

        Args:
          log_probs: float32 `[N, G]`, of the batch's targets now.
          share: float32 `[N, G]`, each written position's share in the mean over the minibatch.
        """
