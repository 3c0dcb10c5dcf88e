"""Actor and critic: what they see, against a NumPy MLP, and how they begin."""

import jax
import numpy as np
import pytest
from support import toy

from reoac_jax.policy.features import EXTRA_FEATURES, FEATURES, PREVIEW_FEATURES
from reoac_jax.policy.heads import Heads

WIDTH = 6
init = jax.jit(Heads.init, static_argnums=0)
apply = jax.jit(Heads.apply, static_argnums=0)


def create(use_hidden, use_extra, use_preview=False, hidden=(7, 9)):
    heads = Heads.create(hidden, (8,), WIDTH, use_hidden, use_extra, use_preview)
    return heads, init(heads, jax.random.key(0))


def plain_mlp(params, x):
    """silu between the layers, in float64."""
    for index in range(len(params)):
        layer = jax.tree.map(lambda w: np.asarray(w, np.float64), params[f"Dense_{index}"])
        if index:
            x = x / (1 + np.exp(-x))
        x = x @ layer["kernel"] + layer["bias"]
    return x


@pytest.mark.parametrize("use_hidden", [False, True])
@pytest.mark.parametrize(
    ("use_extra", "use_preview"), [(False, False), (True, False), (True, True)]
)
def test_heads_equal_a_plain_mlp(use_hidden, use_extra, use_preview):
    heads, params = create(use_hidden, use_extra, use_preview)
    params = toy.randomise(params, 1)
    assert heads.observation_dim == 11 + WIDTH * use_hidden + 5 * use_extra + 17 * use_preview
    seen = np.random.default_rng(0).standard_normal((30, heads.observation_dim)).astype(np.float32)
    got = apply(heads, params, seen)
    x = seen.astype(np.float64)
    if use_hidden:
        pooled = x[:, 11 : 11 + WIDTH]
        centred = pooled - pooled.mean(axis=1, keepdims=True)
        x[:, 11 : 11 + WIDTH] = centred / np.sqrt(pooled.var(axis=1, keepdims=True) + 1e-6)
    assert got.logits.shape == got.q.shape == (30, 5)
    np.testing.assert_allclose(got.logits, plain_mlp(params.actor, x), atol=1e-4)
    np.testing.assert_allclose(got.q, plain_mlp(params.critic, x), atol=1e-4)


def test_only_the_pooled_state_is_free_of_scale():
    heads, params = create(True, True)
    params = toy.randomise(params, 1)
    seen = np.random.default_rng(0).standard_normal((20, heads.observation_dim)).astype(np.float32)
    before = apply(heads, params, seen)
    scaled = seen.copy()
    scaled[:, 11 : 11 + WIDTH] = 50 * scaled[:, 11 : 11 + WIDTH] + 3
    after = apply(heads, params, scaled)
    np.testing.assert_allclose(after.q, before.q, atol=1e-3)
    for column in (0, 10, 11 + WIDTH, heads.observation_dim - 1):
        changed = seen.copy()
        changed[:, column] += 1
        assert np.abs(apply(heads, params, changed).q - before.q).max() > 1e-3


def test_the_first_policy_is_near_uniform_and_the_first_q_near_zero():
    heads, params = create(True, False, hidden=(256, 256))
    seen = np.random.default_rng(0).standard_normal((50, heads.observation_dim)).astype(np.float32)
    out = apply(heads, params, seen)
    assert np.abs(jax.nn.softmax(out.logits) - 0.2).max() < 0.1
    assert np.abs(out.q).max() < 0.5
    assert np.abs(out.logits).max() > 0 and np.abs(np.asarray(out.logits) - out.q).max() > 0


@pytest.mark.parametrize("use_hidden", [False, True])
@pytest.mark.parametrize("use_extra", [False, True])
@pytest.mark.parametrize("use_preview", [False, True])
def test_named_columns_leave_the_pooled_state_out(use_hidden, use_extra, use_preview):
    heads = Heads.create((7,), (8,), WIDTH, use_hidden, use_extra, use_preview)
    later = [*EXTRA_FEATURES] * use_extra + [*PREVIEW_FEATURES] * use_preview
    named = heads.named_columns
    assert list(named) == [*FEATURES, *later]
    first = 11 + WIDTH * use_hidden
    assert list(named.values()) == [*range(11), *range(first, first + len(later))]
    assert heads.observation_dim == first + len(later)
