"""The two estimators of advantages against plain NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from reoac_jax.learning.advantages import critic_advantage, group_advantage


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
    np.testing.assert_allclose(group_advantage(returns, groups), expected, atol=1e-4)


def test_group_advantage_of_equal_returns_is_zero():
    got = group_advantage(jnp.full(6, 0.4), jnp.array([0, 0, 1, 1, 2, 2]))
    np.testing.assert_allclose(got, np.zeros(6), atol=0.1)  # rounding over a scale of 1e-6


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_critic_advantage(rng, decay):
    values, returns = normal(rng, 6, 5), normal(rng, 6)
    steps = np.array([5, 1, 3, 5, 2, 4])
    active = np.arange(5) < steps[:, None]
    expected = np.zeros((6, 5))
    for row, count in enumerate(steps):
        path = [*values[row, :count].astype(np.float64), float(returns[row])]
        deltas = np.diff(path)
        for t in range(count):
            expected[row, t] = sum(decay**k * d for k, d in enumerate(deltas[t:]))
    if decay == 1.0:
        np.testing.assert_allclose(expected[active], (returns[:, None] - values)[active], atol=1e-6)
    expected /= np.sqrt((expected[active] ** 2).mean())
    got = critic_advantage(values, active, returns, decay)
    np.testing.assert_allclose(got, expected, atol=1e-4)
