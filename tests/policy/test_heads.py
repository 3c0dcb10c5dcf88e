"""Actor and critic: what they see, against a NumPy MLP, and how they begin."""

import jax
import numpy as np
import pytest
from support import toy

from reoac_jax.policy.features import EXTRA_FEATURES, FEATURES, preview_names
from reoac_jax.policy.heads import Heads
from reoac_jax.policy.notation import NOTATION_FEATURES
from reoac_jax.policy.observation import Observation, named_features

WIDTH = 6
init = jax.jit(Heads.init, static_argnums=0)
apply = jax.jit(Heads.apply, static_argnums=0)


def create(use_hidden, use_extra, use_preview=False, hidden=(7, 9), operators=5):
    heads = Heads.create(hidden, (8,), WIDTH, use_hidden, use_extra, use_preview, operators)
    return heads, init(heads, jax.random.key(0))


def observations(count, operators=5, seed=0):
    """Random ones that hold every part."""
    rng = np.random.default_rng(seed)
    widths = len(FEATURES), WIDTH, len(EXTRA_FEATURES), 3 * operators + 2
    return Observation(*(rng.standard_normal((count, w)).astype(np.float32) for w in widths))


def plain_mlp(params, x):
    """silu between the layers, in float64."""
    for index in range(len(params)):
        layer = jax.tree.map(lambda w: np.asarray(w, np.float64), params[f"Dense_{index}"])
        if index:
            x = x / (1 + np.exp(-x))
        x = x @ layer["kernel"] + layer["bias"]
    return x


@pytest.mark.slow
@pytest.mark.parametrize(
    ("use_hidden", "use_extra", "use_preview", "operators"),
    [
        (False, False, False, 2), (True, False, False, 5), (True, True, False, 2),
        (False, True, True, 5), (True, True, True, 2),
    ],
)  # fmt: skip
def test_heads_equal_a_plain_mlp_of_the_parts_they_read(
    use_hidden, use_extra, use_preview, operators
):
    heads, params = create(use_hidden, use_extra, use_preview, operators=operators)
    params = toy.randomise(params, 1)
    seen = observations(30, operators)
    got = apply(heads, params, seen)
    pooled = seen.pooled.astype(np.float64)
    centred = pooled - pooled.mean(axis=1, keepdims=True)
    pooled = centred / np.sqrt(pooled.var(axis=1, keepdims=True) + 1e-6)
    read = [seen.alignment, pooled, seen.progress, seen.preview]
    used = [True, use_hidden, use_extra, use_preview]
    x = np.concatenate([part for part, on in zip(read, used, strict=True) if on], axis=1)
    assert got.logits.shape == got.q.shape == (30, operators)
    np.testing.assert_allclose(got.logits, plain_mlp(params.actor, x), atol=1e-4)
    np.testing.assert_allclose(got.q, plain_mlp(params.critic, x), atol=1e-4)
    parts = ("alignment", "pooled", "progress", "preview")
    missing = {name: None for name, on in zip(parts, used, strict=True) if not on}
    np.testing.assert_array_equal(apply(heads, params, seen._replace(**missing)).q, got.q)


def test_only_the_pooled_state_is_free_of_scale():
    heads, params = create(True, True)
    params = toy.randomise(params, 1)
    seen = observations(20)
    before = apply(heads, params, seen)
    after = apply(heads, params, seen._replace(pooled=50 * seen.pooled + 3))
    np.testing.assert_allclose(after.q, before.q, atol=1e-3)
    for part in ("alignment", "progress"):
        for column in (0, -1):
            changed = np.array(getattr(seen, part))
            changed[:, column] += 1
            after = apply(heads, params, seen._replace(**{part: changed}))
            assert np.abs(after.q - before.q).max() > 1e-3


@pytest.mark.slow
def test_the_first_policy_is_near_uniform_and_the_first_q_near_zero():
    heads, params = create(True, False, hidden=(256, 256))
    out = apply(heads, params, observations(50))
    assert np.abs(jax.nn.softmax(out.logits) - 0.2).max() < 0.1
    assert np.abs(out.q).max() < 0.5
    assert np.abs(out.logits).max() > 0 and np.abs(np.asarray(out.logits) - out.q).max() > 0


@pytest.mark.slow
def test_heads_read_the_notation_where_it_is_switched_on():
    heads = Heads.create((7,), (8,), WIDTH, False, False, False, 5, use_notation=True)
    params = toy.randomise(init(heads, jax.random.key(0)), 1)
    seen = observations(12)._replace(notation=np.zeros((12, len(NOTATION_FEATURES)), np.float32))
    before = apply(heads, params, seen)
    x = np.concatenate([seen.alignment, seen.notation], axis=1)
    np.testing.assert_allclose(before.q, plain_mlp(params.critic, x), atol=1e-4)
    after = apply(heads, params, seen._replace(notation=seen.notation + 1))
    assert np.abs(after.q - before.q).max() > 1e-3 < np.abs(after.logits - before.logits).max()


def test_named_features_are_all_but_the_pooled_state():
    names = ("O_NUM", "O_FAST")
    seen = observations(4, operators=2)
    named = named_features(seen, names)
    assert list(named) == [*FEATURES, *EXTRA_FEATURES, *preview_names(names)]
    columns = np.concatenate([seen.alignment, seen.progress, seen.preview], axis=1).T
    np.testing.assert_array_equal(list(named.values()), columns)
    assert list(named_features(Observation(seen.alignment, seen.pooled), names)) == [*FEATURES]
    read = seen._replace(notation=seen.alignment[:, :1] * np.arange(1, len(NOTATION_FEATURES) + 1))
    columns = [named_features(read, names)[name] for name in NOTATION_FEATURES]
    np.testing.assert_array_equal(columns, read.notation.T)


@pytest.mark.slow
def test_parameters_are_those_of_an_initialisation_that_applies_the_modules():
    """A run's first parameters are part of what it computes, to the last bit."""
    heads, params = create(True, True)
    keys = jax.random.split(jax.random.key(0))
    modules = (heads.actor, params.actor), (heads.critic, params.critic)
    for key, (module, own) in zip(keys, modules, strict=True):
        whole = module.init(key, heads.example())["params"]
        jax.tree.map(np.testing.assert_array_equal, own, whole)
