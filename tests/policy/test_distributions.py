"""What an actor chooses: its probability, entropy and draws against plain sums."""

import itertools

import jax
import numpy as np
import pytest

from reoac_jax.policy.distributions import DISTRIBUTIONS, AnyPositions, OneOperator

N, C = 5, 4


def some(seed=0):
    """Logits and what is legal; in the last row one choice alone."""
    rng = np.random.default_rng(seed)
    legal = rng.random((N, C)) < 0.6
    legal[:, 0], legal[-1] = True, np.arange(C) == 2
    return (2 * rng.standard_normal((N, C))).astype(np.float32), legal


def every_choice(legal):
    """Every set of the legal positions of one row, bool `[C]` each."""
    for bits in itertools.product((False, True), repeat=int(legal.sum())):
        chosen = np.zeros(C, bool)
        chosen[legal] = bits
        yield chosen


def test_of_positions_the_probability_is_the_product_over_the_masked_ones():
    logits, legal = some()
    policy = AnyPositions(logits, legal)
    chance = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    for row in range(N):
        total = entropy = 0.0
        for chosen in every_choice(legal[row]):
            wanted = 0.0
            for place in np.flatnonzero(legal[row]):
                wanted += np.log(chance[row, place] if chosen[place] else 1 - chance[row, place])
            given = np.broadcast_to(chosen, (N, C))
            assert float(policy.log_prob(given)[row]) == pytest.approx(wanted, abs=1e-5)
            total += np.exp(wanted)
            entropy -= np.exp(wanted) * wanted
        assert total == pytest.approx(1.0)
        assert float(policy.entropy()[row]) == pytest.approx(entropy, abs=1e-5)
    np.testing.assert_array_equal(policy.best(), legal & (chance > 0.5))


def test_one_operator_is_a_softmax_over_the_legal():
    logits, legal = some()
    policy = OneOperator(logits, legal)
    weights = np.where(legal, np.exp(logits.astype(np.float64)), 0.0)
    p = weights / weights.sum(axis=1, keepdims=True)
    for place in range(C):
        chosen = np.full(N, place, np.int32)
        where = legal[:, place]
        got = np.exp(policy.log_prob(chosen))
        np.testing.assert_allclose(got[where], p[where, place], rtol=1e-5)
        assert not got[~where].any()
    wanted = -(p * np.log(np.where(legal, p, 1.0))).sum(axis=1)
    np.testing.assert_allclose(policy.entropy(), wanted, atol=1e-5)
    np.testing.assert_array_equal(policy.best(), p.argmax(axis=1))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_draws_have_the_probability_that_is_said_of_them(name):
    logits, legal = some(1)
    policy, count = DISTRIBUTIONS[name](logits, legal), 4000
    keys = jax.random.split(jax.random.key(0), (count, N))
    drawn = np.asarray(jax.vmap(policy.draw)(keys))
    for row in range(N):
        seen, times = np.unique(drawn[:, row], axis=0, return_counts=True)
        for chosen, often in zip(seen, times, strict=True):
            # A number is a place in the row, bits are a mask of it.
            assert legal[row][chosen].all()
            given = np.broadcast_to(chosen, (N, *chosen.shape))
            p = float(np.exp(policy.log_prob(given)[row]))
            assert abs(often / count - p) < 5 * np.sqrt(p * (1 - p) / count) + 1e-9
