"""What a step was worth beside what was to be expected: two estimators (DESIGN.md, section 10)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class GradedEpisodes(NamedTuple):
    """What an advantage is estimated from: `E` episodes of `T` steps, on the host.

    returns: float32 `[E]`. groups: int32 `[E]` in [0, E), equal for episodes of one prompt.
    values: float32 `[E, T]`, V(s) of the critic that acted. active: bool `[E, T]`, True up to each
    episode's last step.
    """

    returns: np.ndarray
    groups: np.ndarray
    values: np.ndarray
    active: np.ndarray


# episodes -> float32 [E, T]
Estimator = Callable[[GradedEpisodes], np.ndarray]


@dataclasses.dataclass(frozen=True)
class GroupRelative:
    """`group_advantage`, the same for all steps of an episode."""

    def __call__(self, episodes: GradedEpisodes) -> np.ndarray:
        returns, groups = jnp.asarray(episodes.returns), jnp.asarray(episodes.groups)
        relative = np.asarray(group_advantage(returns, groups), np.float32)
        return np.broadcast_to(relative[:, None], episodes.active.shape)


@dataclasses.dataclass(frozen=True)
class ByCritic:
    """`critic_advantage` with the given decay."""

    decay: float

    def __call__(self, episodes: GradedEpisodes) -> np.ndarray:
        values, active = jnp.asarray(episodes.values), jnp.asarray(episodes.active)
        returns = jnp.asarray(episodes.returns)
        return np.asarray(critic_advantage(values, active, returns, self.decay))


def estimator(objective: Any) -> Estimator:
    """The one that a validated configuration's section `objective` names."""
    if objective.advantage == "critic":
        return ByCritic(objective.advantage_decay)
    return GroupRelative()


def group_advantage(returns: jax.Array, groups: jax.Array) -> jax.Array:
    """Each episode's return less its group's mean, over the standard deviation of all of these.

    (Shao et al. 2024, arXiv 2402.03300, section 4.1, but with one scale for the batch: a group in
    which nothing but the costs differs is not blown up to the size of one that holds a success.)

    Args:
      returns: float32 `[E]`. groups: int32 `[E]` in [0, E), equal for episodes of one prompt.
    """
    size = returns.shape[0]
    count = jax.ops.segment_sum(jnp.ones_like(returns), groups, size)
    mean = jax.ops.segment_sum(returns, groups, size) / jnp.maximum(count, 1.0)
    centred = returns - mean[groups]
    return centred / (jnp.sqrt(jnp.square(centred).mean()) + 1e-6)


def critic_advantage(
    values: jax.Array, active: jax.Array, returns: jax.Array, decay: float
) -> jax.Array:
    """Each step's share in an episode's return, by the critic: generalised advantage estimation.

    delta_t = V(s_t+1) - V(s_t), where the return G stands for the value behind the last step, and
    A_t = delta_t + decay * A_t+1; over the root mean square of all of these. With decay 1, A_t is
    G - V(s_t), unbiased; a smaller one trusts the critic more. (Schulman et al. 2016, arXiv
    1506.02438, equation 16, with discount 1 and the whole return at the end: the critic regresses
    whole returns as well.)

    Args:
      values: float32 `[E, T]`, of the states under the policy. active: bool `[E, T]`, True up to
        each episode's last step. returns: float32 `[E]`.

    Returns:
      float32 `[E, T]`, 0 where not active.
    """
    later = jnp.concatenate([values[:, 1:], returns[:, None]], axis=1)
    goes_on = jnp.concatenate([active[:, 1:], jnp.zeros_like(active[:, :1])], axis=1)
    delta = jnp.where(active, jnp.where(goes_on, later, returns[:, None]) - values, 0.0)

    def back(after: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
        advantage = now + decay * after
        return advantage, advantage

    _, advantage = jax.lax.scan(back, jnp.zeros_like(returns), delta.T, reverse=True)
    advantage = jnp.where(active, advantage.T, 0.0)
    scale = jnp.sqrt(jnp.square(advantage).sum() / jnp.maximum(active.sum(), 1))
    return advantage / (scale + 1e-6)
