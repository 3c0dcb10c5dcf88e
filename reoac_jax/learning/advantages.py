"""What a step was worth beside what was to be expected: two estimators (DESIGN.md, section 10)."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class GradedEpisodes(NamedTuple):
    """What an advantage is estimated from: `E` episodes of `T` steps, on the host.

    rewards: float32 `[E]`. charges: float32 `[E, T]`, each step's part of the return, cost_lambda
    times its cost; 0 where not active. groups: int32 `[E]` in [0, E), equal for episodes of one
    prompt. values: float32 `[E, T]`, V(s) of the critic that acted. active: bool `[E, T]`, True up
    to each episode's last step.
    """

    rewards: np.ndarray
    charges: np.ndarray
    groups: np.ndarray
    values: np.ndarray
    active: np.ndarray

    @property
    def returns(self) -> np.ndarray:
        """float32 `[E]`: the reward less all charges."""
        return (self.rewards - self.charges.sum(axis=1)).astype(np.float32)

    @property
    def returns_to_go(self) -> np.ndarray:
        """float32 `[E, T]`: the reward less the charges from each step on."""
        ahead = np.cumsum(self.charges[:, ::-1], axis=1)[:, ::-1]
        return (self.rewards[:, None] - ahead).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class GroupRelative:
    """`group_advantage`, the same for all steps of an episode. floor: the least scale."""

    floor: float
    own_scale: bool = False

    def __call__(self, episodes: GradedEpisodes) -> np.ndarray:
        returns, groups = jnp.asarray(episodes.returns), jnp.asarray(episodes.groups)
        found = group_advantage(returns, groups, self.floor, self.own_scale)
        relative = np.asarray(found, np.float32)
        return np.broadcast_to(relative[:, None], episodes.active.shape)


@dataclasses.dataclass(frozen=True)
class ByCritic:
    """`critic_advantage` with the given decay. floor: the least scale."""

    decay: float
    floor: float

    def __call__(self, episodes: GradedEpisodes) -> np.ndarray:
        fields = episodes.values, episodes.active, episodes.rewards, episodes.charges
        values, active, rewards, charges = (jnp.asarray(x) for x in fields)
        return np.asarray(
            critic_advantage(values, active, rewards, charges, self.decay, self.floor)
        )


# episodes -> float32 [E, T]
Estimator = GroupRelative | ByCritic


def estimator(objective: Any) -> Estimator:
    """The one that a validated configuration's section `objective` names."""
    if objective.advantage == "critic":
        return ByCritic(objective.advantage_decay, objective.advantage_floor)
    return GroupRelative(objective.advantage_floor, objective.advantage_scale == "group")


def group_advantage(
    returns: jax.Array, groups: jax.Array, floor: float, own_scale: bool = False
) -> jax.Array:
    """Each episode's return less its group's mean, over the standard deviation of all of these.

    (Shao et al. 2024, arXiv 2402.03300, section 4.1, but with one scale for the batch: a group in
    which nothing but the costs differs is not blown up to the size of one that holds a success.)
    Where no group holds one the scale would be that of the costs, and the policy would learn with
    full force to be cheap: it is never below `floor`.

    Args:
      returns: float32 `[E]`. groups: int32 `[E]` in [0, E), equal for episodes of one prompt.
      own_scale: each group by its own standard deviation, as published: a success among failures
        counts for more than one among successes. `floor` bounds it likewise.
    """
    size = returns.shape[0]
    count = jax.ops.segment_sum(jnp.ones_like(returns), groups, size)
    mean = jax.ops.segment_sum(returns, groups, size) / jnp.maximum(count, 1.0)
    centred = returns - mean[groups]
    if own_scale:
        spread = jax.ops.segment_sum(jnp.square(centred), groups, size) / jnp.maximum(count, 1.0)
        return centred / _scale(spread, floor)[groups]
    return centred / _scale(jnp.square(centred).mean(), floor)


def critic_advantage(
    values: jax.Array,
    active: jax.Array,
    rewards: jax.Array,
    charges: jax.Array,
    decay: float,
    floor: float,
) -> jax.Array:
    """Each step's share in an episode's return, by the critic: generalised advantage estimation.

    delta_t = -charge_t + V(s_t+1) - V(s_t), where the reward stands for the value behind the last
    step, and A_t = delta_t + decay * A_t+1; over the root mean square of all of these, or `floor`
    where that is larger. With decay 1, A_t is the return to go less V(s_t), unbiased; a smaller
    one trusts the critic more. (Schulman et al. 2016, arXiv 1506.02438, equation 16, discount 1.)

    Args:
      values: float32 `[E, T]`, of the states under the policy. active: bool `[E, T]`, True up to
        each episode's last step. rewards: float32 `[E]`. charges: float32 `[E, T]`.

    Returns:
      float32 `[E, T]`, 0 where not active.
    """
    later = jnp.concatenate([values[:, 1:], rewards[:, None]], axis=1)
    goes_on = jnp.concatenate([active[:, 1:], jnp.zeros_like(active[:, :1])], axis=1)
    gained = jnp.where(goes_on, later, rewards[:, None]) - values - charges
    delta = jnp.where(active, gained, 0.0)

    def back(after: jax.Array, now: jax.Array) -> tuple[jax.Array, jax.Array]:
        advantage = now + decay * after
        return advantage, advantage

    _, advantage = jax.lax.scan(back, jnp.zeros_like(rewards), delta.T, reverse=True)
    advantage = jnp.where(active, advantage.T, 0.0)
    return advantage / _scale(jnp.square(advantage).sum() / jnp.maximum(active.sum(), 1), floor)


def _scale(mean_square: jax.Array, floor: float) -> jax.Array:
    return jnp.maximum(jnp.sqrt(mean_square) + 1e-6, floor)
