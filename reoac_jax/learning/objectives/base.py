"""What an objective is: a frozen dataclass with its own settings, an advantage and a loss.

`E` episodes of `T` steps, `N` transitions, `A` operators, `G` generated positions, `K` of them that
a transition may have written.
"""

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import jax
import numpy as np

from reoac_jax.backbone.likelihood import TokenStatistics
from reoac_jax.config.parameters import Parametric
from reoac_jax.learning.advantages import Estimator, GradedEpisodes
from reoac_jax.learning.losses import position_shares
from reoac_jax.learning.replay import BackboneBatch, Episodes, HeadBatch
from reoac_jax.policy.distributions import Distribution


class Loss(NamedTuple):
    """value: float32 `[]`. metrics: by the name that metrics.jsonl has; float32 `[]` each of an
    actor's objective, `[N, K]` of a backbone's, to be averaged over the written positions.
    """

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
    """What the actor follows.

    reads_q: whether the loss reads the critic's Q, so that there has to be one.
    """

    reads_q: ClassVar[bool] = False

    @abc.abstractmethod
    def loss(
        self,
        policy: Distribution,
        q: jax.Array | None,
        batch: HeadBatch[jax.Array],
        real: jax.Array,
    ) -> Loss:
        """The mean over the transitions that are no padding.

        Args:
          policy: the actor's now, `N` distributions.
          q: float32 `[N, A]`, the critic's, which is held fixed; None where there is no critic.
          real: float32 `[N]`, 0 for padding.
        """


class BackboneObjective(Objective, abc.ABC):
    """What the backbone follows, at the positions that a step wrote.

    drawn: whether the loss reads the distributions that the tokens were drawn from, as the rollout
    saw them: at its temperature and without dropout; else those at temperature 1, with it.
    """

    drawn: ClassVar[bool] = False

    @property
    def measures_start(self) -> bool:
        """Whether the loss needs the KL to the weights that training started from."""
        return False

    @abc.abstractmethod
    def target(self, episodes: Episodes, episode: np.ndarray, step: np.ndarray) -> np.ndarray:
        """int32 `[N, G]`: the tokens whose probability the loss reads.

        episode, step: int `[N]`, which transitions.
        """

    def shares(self, written: jax.Array, real: jax.Array, a_step: float) -> jax.Array:
        """float32 `[N, K]`: what each position weighs in a minibatch's loss, 0 unless written.

        Args:
          written: bool `[N, K]`. real: float32 `[N]`, 0 for padding.
          a_step: tokens that a step of scale 1 writes, G / T.
        """
        return position_shares(written, real)

    @abc.abstractmethod
    def loss(
        self, tokens: TokenStatistics, batch: BackboneBatch[jax.Array], share: jax.Array
    ) -> Loss:
        """The loss of a part of a minibatch; those of the parts add up.

        Args:
          tokens: float32 `[N, K]` each, of the batch's targets now.
          share: float32 `[N, K]`, of `shares` of the whole minibatch.
        """
