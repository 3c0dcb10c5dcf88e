"""The overlay: merged and in the layers it is the same, and it never touches the base."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from support import toy

from reoac_jax.backbone import Backbone, lora
from reoac_jax.backbone.layers import Linear
from reoac_jax.system.errors import InputError

pytestmark = [pytest.mark.as_used, pytest.mark.slow]
SCALE = 2.0
DEFAULT = Backbone.lora_targets
TOKENS = np.random.default_rng(0).integers(0, toy.VOCAB_SIZE, (3, 9)).astype(np.int32)
LENGTHS = np.array([9, 4, 6], np.int32)


@functools.cache
def base():
    return toy.backbone(1, lora_dropout=0.5, blocks=1)


@functools.cache
def random_overlay(targets, rank=3):
    """`b` is not zero, as it is after some training."""
    return toy.randomise(new_overlay(1, targets, rank), 2)


_initial = jax.jit(lora.init, static_argnums=(2, 3))


def new_overlay(seed, targets=DEFAULT, rank=3):
    return _initial(jax.random.key(seed), base()[1], targets, rank)


@functools.partial(jax.jit, static_argnums=1)
def outputs(variables, deterministic=True, key=None):
    """Logits and hidden states at real positions; zero elsewhere."""
    model, _ = base()
    rngs = None if key is None else {"dropout": key}
    out = model.apply(variables, TOKENS, LENGTHS, deterministic=deterministic, rngs=rngs)
    real = (np.arange(TOKENS.shape[1]) < LENGTHS[:, None])[:, :, None]
    return jax.tree.map(lambda x: jnp.where(real, x, 0.0), out)


def in_layers(overlay):
    return {"params": base()[1], "lora": lora.collection(overlay, SCALE)}


@pytest.mark.parametrize("targets", [DEFAULT, ("kernel",)])
def test_merged_equals_in_the_layers(targets):
    """Default targets, and every kernel that carries an overlay in its layer."""
    overlay = random_overlay(targets)
    merged = outputs({"params": lora.merge(base()[1], overlay, SCALE)})
    layered = outputs(in_layers(overlay))
    plain = outputs({"params": base()[1]})
    for got, want, without in zip(layered, merged, plain, strict=True):
        assert np.abs(want - without).max() > 0.01
        size = max(1.0, np.abs(want).max())
        np.testing.assert_allclose(got / size, want / size, atol=1e-5)


def test_merge_is_w_plus_scaled_product():
    overlay = random_overlay(("mlp_in",))
    params = base()[1]
    before = jax.tree.map(np.array, params)
    merged = flatten_dict(lora.merge(params, overlay, SCALE), sep="/")
    for path, weight in flatten_dict(params, sep="/").items():
        if path in overlay:
            pair = {name: np.asarray(x, np.float64) for name, x in overlay[path].items()}
            weight = np.asarray(weight, np.float64) + SCALE * pair["a"] @ pair["b"]
            np.testing.assert_allclose(merged[path], weight, atol=1e-6)
        else:
            assert merged[path] is weight
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_a_new_overlay_changes_nothing():
    overlay = new_overlay(0)
    for pair in overlay.values():
        assert np.asarray(pair["a"]).any() and not np.asarray(pair["b"]).any()
    assert len({pair["a"].tobytes() for pair in map(jax.device_get, overlay.values())}) == 2
    merged = lora.merge(base()[1], overlay, SCALE)
    jax.tree.map(np.testing.assert_array_equal, merged, base()[1])
    plain = outputs({"params": base()[1]})
    jax.tree.map(np.testing.assert_array_equal, outputs(in_layers(overlay)), plain)


def test_targets():
    _, params = toy.backbone(1)
    default = lora.target_paths(params, DEFAULT)
    assert sorted(default) == [
        "blocks_0/attn_out/kernel", "blocks_0/attn_qkv/kernel",
        "blocks_1/attn_out/kernel", "blocks_1/attn_qkv/kernel",
    ]  # fmt: skip
    assert lora.target_paths(params, ("blocks_1/mlp",)) == (
        "blocks_1/mlp_in/kernel", "blocks_1/mlp_out/kernel",
    )  # fmt: skip
    assert set(lora.target_paths(params, (r"attn_(qkv|out)",))) == set(default)
    assert lora.target_paths(params, ("final/linear", "linear$|final/lin")) == (
        "final/linear/kernel",
    )
    everything = lora.target_paths(params, (".",))
    assert all(path.endswith("/kernel") for path in everything)


@pytest.mark.parametrize(
    "targets, rank, message",
    [
        (("attn_qkv", "attn_q$"), 2, "attn_q\\$.*matches no kernel"),
        (("embedding",), 2, "matches no kernel"),
        (("attn_(qkv",), 2, "no regular expression"),
        (DEFAULT, 17, "lora.rank is 17.*at most 16"),
    ],
)
def test_refusals(targets, rank, message):
    with pytest.raises(InputError, match=message) as caught:
        lora.init(jax.random.key(0), base()[1], targets, rank)
    assert "\n" not in str(caught.value)


def test_gradient_flows_to_the_overlay():
    """To `b` at once, and to `a` as soon as `b` is not zero."""

    def loss(overlay):
        return jnp.square(outputs(in_layers(overlay)).logits).sum()

    gradient = jax.jit(jax.grad(loss))
    fresh = gradient(new_overlay(0))
    trained = gradient(random_overlay(DEFAULT))
    for path, pair in fresh.items():
        assert np.asarray(pair["b"]).any() and not np.asarray(pair["a"]).any(), path
        assert np.asarray(trained[path]["a"]).any() and np.asarray(trained[path]["b"]).any(), path


def test_dropout_acts_on_the_low_rank_path_only():
    """With a and b the identity, what the overlay adds is dropout(x) itself."""
    rate, width = 0.25, 16
    layer = Linear(width, lora_dropout=rate)
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (400, width)).astype(np.float32))
    params = layer.init(jax.random.key(0), x)["params"]
    identity = {"a": jnp.eye(width), "b": jnp.eye(width)}

    def added(deterministic, seed=0):
        rngs = {"dropout": jax.random.key(seed)}
        variables = {"params": params, "lora": identity}
        with_overlay = layer.apply(variables, x, deterministic, rngs=rngs)
        return np.asarray(with_overlay - layer.apply({"params": params}, x))

    np.testing.assert_allclose(added(True), x, atol=1e-5)
    share = added(False) / np.asarray(x)
    kept = share > 0.5
    np.testing.assert_allclose(share, np.where(kept, 1 / (1 - rate), 0.0), atol=1e-5)
    assert kept.mean() == pytest.approx(1 - rate, abs=0.03)
    assert (added(False, seed=1) != added(False)).any()


def test_dropout_acts_in_training_only():
    overlay = random_overlay(DEFAULT)
    quiet = outputs(in_layers(overlay)).hidden
    noisy = outputs(in_layers(overlay), False, jax.random.key(0)).hidden
    assert np.abs(quiet - noisy).max() > 1e-3
    fresh = new_overlay(0)  # b is zero: nothing for it to act on
    noisy = outputs(in_layers(fresh), False, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, noisy, outputs({"params": base()[1]}))


def test_collection_names_layers_of_the_model():
    """Every target has its layer; nothing in the collection is read by none."""
    _, params = base()
    overlay = random_overlay((".",))
    flat = flatten_dict(lora.collection(overlay, SCALE), sep="/")
    assert {f"{path.removesuffix('/kernel')}/{x}" for path in overlay for x in "ab"} == set(flat)

    @jax.jit
    @jax.grad
    def gradient(collection):
        return jnp.square(outputs({"params": params, "lora": collection}).logits).sum()

    read = flatten_dict(gradient(lora.collection(overlay, SCALE)), sep="/")
    assert all(np.asarray(x).any() for x in read.values())
