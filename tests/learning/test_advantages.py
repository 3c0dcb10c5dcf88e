"""The two estimators of advantages against plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from reoac_jax.learning.advantages import (
    ByCritic,
    GradedEpisodes,
    GroupRelative,
    critic_advantage,
    group_advantage,
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def test_group_advantage(rng):
    groups = np.repeat([3, 0, 7, 1], [4, 1, 3, 2])[rng.permutation(10)].astype(np.int32)
    returns = normal(rng, 10)
    centred = returns.astype(np.float64)
    for group in set(groups.tolist()):
        centred[groups == group] -= returns[groups == group].astype(np.float64).mean()
    expected = centred / np.sqrt((centred**2).mean())
    np.testing.assert_allclose(group_advantage(returns, groups, 0.1), expected, atol=1e-4)
    for group in set(groups.tolist()):
        own = centred[groups == group]
        centred[groups == group] = own / max(np.sqrt((own**2).mean()), 0.1)
    own_scale = group_advantage(returns, groups, 0.1, own_scale=True)
    np.testing.assert_allclose(own_scale, centred, atol=1e-4)


def test_group_advantage_of_equal_returns_is_zero():
    got = group_advantage(jnp.full(6, 0.4), jnp.array([0, 0, 1, 1, 2, 2]), 0.1)
    np.testing.assert_allclose(got, np.zeros(6), atol=1e-5)


def test_where_nothing_is_earned_the_costs_are_not_blown_up(rng):
    """Returns that differ by a few hundredths: divided by the floor, not by their own spread."""
    rewards, costs = np.zeros(8, np.float32), 0.01 * rng.random((8, 3)).astype(np.float32)
    groups, active = np.repeat([0, 1], 4).astype(np.int32), np.ones((8, 3), bool)
    episodes = GradedEpisodes(rewards, costs, groups, np.zeros((8, 3), np.float32), active)
    assert 0 < np.abs(GroupRelative(0.1, own_scale=True)(episodes)).max() < 0.4
    for estimate in (GroupRelative(0.1), ByCritic(1.0, 0.1)):
        tame = estimate(episodes)
        assert 0 < np.abs(tame).max() < 0.4
        blown = type(estimate)(**(vars(estimate) | {"floor": 0.0}))(episodes)
        assert np.sqrt(np.square(blown).mean()) == pytest.approx(1.0, abs=1e-2)
        np.testing.assert_allclose(
            blown * np.abs(tame).max(), tame * np.abs(blown).max(), rtol=1e-3
        )


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_critic_advantage(rng, decay):
    """Rewards and charges of the same size: what a step is charged counts in its own delta."""
    values, rewards = normal(rng, 6, 5), normal(rng, 6)
    steps = np.array([5, 1, 3, 5, 2, 4])
    active = np.arange(5) < steps[:, None]
    charges = np.where(active, rng.random((6, 5)), 0.0).astype(np.float32)
    expected = np.zeros((6, 5))
    for row, count in enumerate(steps):
        path = [*values[row, :count].astype(np.float64), float(rewards[row])]
        deltas = [path[t + 1] - charges[row, t] - path[t] for t in range(count)]
        for t in range(count):
            expected[row, t] = sum(decay**k * d for k, d in enumerate(deltas[t:]))
    if decay == 1.0:  # the return to go, less the value
        episodes = GradedEpisodes(rewards, charges, np.arange(6, dtype=np.int32), values, active)
        wanted = (episodes.returns_to_go - values)[active]
        np.testing.assert_allclose(expected[active], wanted, atol=1e-6)
    expected /= np.sqrt((expected[active] ** 2).mean())
    got = critic_advantage(values, active, rewards, charges, decay, 0.1)
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_returns(rng):
    rewards, charges = normal(rng, 4), rng.random((4, 3)).astype(np.float32)
    charges[1, 2] = charges[2, 1] = charges[2, 2] = 0  # ended earlier
    episodes = GradedEpisodes(rewards, charges, None, None, None)
    for row in range(4):
        for t in range(3):
            ahead = rewards[row] - sum(float(charges[row, k]) for k in range(t, 3))
            assert episodes.returns_to_go[row, t] == pytest.approx(ahead, abs=1e-6)
        assert episodes.returns[row] == pytest.approx(episodes.returns_to_go[row, 0], abs=1e-6)
    assert episodes.returns.dtype == episodes.returns_to_go.dtype == np.float32
