"""The actor over positions: its block against NumPy, its start, its size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from support.plain_layers import PlainLayers

from reoac_jax.policy.heads import Heads
from reoac_jax.policy.observation import Observation
from reoac_jax.policy.positions import PositionActor, PositionSizes
from reoac_jax.policy.rows import RowEncoder

SIZES = PositionSizes(gen_len=6, width=8, mlp_width=12, attention_heads=2, start=0.2)
NUMBERS = dataclasses.replace(SIZES, start=0.9, start_decay=2.0, start_order="numbers")
G, WIDTH = SIZES.gen_len, SIZES.width
ROWS = dataclasses.replace(toy.ROWS, gen_len=SIZES.gen_len)
apply_encoder = jax.jit(RowEncoder.apply, static_argnums=0)
apply_actor = jax.jit(PositionActor.apply, static_argnums=0)


def observations(count):
    rng = np.random.default_rng(0)
    seen = np.stack([rng.random((count, G)), rng.random((count, G)) < 0.5], axis=-1)
    seen[0, :2, 0] = 0.0, 1.0  # where the odds have no end
    progress = rng.random((count, 5)).astype(np.float32)
    return Observation(progress=progress, positions=seen.astype(np.float32))


def telling_numbers(count):
    """The same, with a position more of the same confidence, and whether each is a number."""
    seen = observations(count)
    seen.positions[1, :2, 0] = 0.5
    number = np.random.default_rng(2).random((count, G, 1)) < 0.6
    return seen._replace(positions=np.concatenate([seen.positions, number], 2, dtype=np.float32))


def before_by_hand(seen):
    """How many masked numbers are written before each position, where numbers come first."""
    before = np.zeros(seen.positions.shape[:2])
    for row, place in np.ndindex(before.shape):
        confidence, masked, number = seen.positions[row].T
        waiting = [i for i in range(G) if masked[i] and number[i]]
        if number[place]:
            key = (-confidence[place], place)
            waiting = [i for i in waiting if (-confidence[i], i) < key]
        before[row, place] = len(waiting)
    return before


def reading_rows(count):
    """The same, with a row's positions and what it says in the task's notation beside it."""
    rng = np.random.default_rng(1)
    rows = ROWS.example(count)
    rows = rows._replace(
        token=rng.integers(0, ROWS.vocab_size, rows.token.shape).astype(np.int32),
        confidence=rng.random(rows.token.shape).astype(np.float32),
        entropy=rng.random(rows.token.shape).astype(np.float32),
        masked=rng.random(rows.token.shape) < 0.5,
        hidden=rng.standard_normal(rows.hidden.shape).astype(np.float32),
    )
    notation = rng.random((count, 16)).astype(np.float32)
    return observations(count)._replace(rows=rows, notation=notation)


def plain_actor(params, seen):
    """In float64, one row at a time."""
    layers, results = PlainLayers(params), []
    for i in range(len(seen.positions)):
        confidence, *others = seen.positions[i].astype(np.float64).T
        within = np.clip(confidence, 1e-4, 1 - 1e-4)
        x = np.stack([confidence, np.log(within / (1 - within)) / 5, *others], axis=-1)
        x = layers.dense("seen", x) + layers.params["place"]
        x = x + layers.dense("progress", seen.progress[i].astype(np.float64))
        if seen.rows is not None:
            x = x + layers.dense("notation", seen.notation[i].astype(np.float64))
            row = jax.tree.map(lambda x, i=i: x[i : i + 1], seen.rows)
            # Tested by itself (test_rows.py).
            encoded = apply_encoder(RowEncoder(ROWS), {"params": params["encoder"]}, row)
            x = x + layers.dense("rows", np.asarray(encoded[0], np.float64))
        x = x + layers.attention("attention", layers.norm("LayerNorm_0", x), SIZES.attention_heads)
        x = x + layers.mlp("mlp_in", "mlp_out", layers.norm("LayerNorm_1", x))
        results.append(layers.dense("logit", layers.norm("LayerNorm_2", x))[:, 0])
    if seen.positions.shape[-1] == 3:
        return np.stack(results) - params["decay"] * before_by_hand(seen)
    return np.stack(results)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "seen"),
    [
        (PositionActor(SIZES), observations(4)),
        (PositionActor(SIZES, ROWS), reading_rows(4)),
        (PositionActor(NUMBERS), telling_numbers(4)),
    ],
    ids=("confidences", "rows", "numbers"),
)
def test_the_block_equals_a_plain_one_and_sees_all_that_it_is_given(module, seen):
    params = toy.randomise(jax.jit(module.init)(jax.random.key(0), seen)["params"], 1, 0.3)
    got = apply_actor(module, {"params": params}, seen)
    assert got.shape == (4, G)
    np.testing.assert_allclose(got, plain_actor(params, seen), atol=2e-4)
    alone = apply_actor(module, {"params": params}, jax.tree.map(lambda x: x[2:3], seen))
    np.testing.assert_allclose(alone[0], got[2], atol=1e-5)

    def loss(params):
        return jnp.square(module.apply({"params": params}, seen) - jnp.arange(float(G))).sum()

    # Optimised: without, XLA's CPU compiler (jaxlib 0.10) makes NaN of such a gradient.
    optimised = {"xla_backend_optimization_level": 3}
    gradient = jax.jit(jax.grad(loss), compiler_options=optimised)(params)
    if seen.rows is not None:
        table = gradient["encoder"]["token"]["Embed_0"]["embedding"]
        assert (np.abs(table[np.unique(seen.rows.token)]).max(axis=1) > 0).all()
    for path, x in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(x).all() and np.abs(x).max() > 0, path


def test_at_first_every_position_has_about_the_chance_it_starts_with():
    heads = Heads.over_positions(SIZES, True)
    params = jax.jit(heads.init)(jax.random.key(0))
    assert set(params.items()) == {"actor"}  # no critic, and nothing that is standardised
    output = jax.jit(heads.apply)(params, observations(20))
    assert output.q is None
    assert np.abs(jax.nn.sigmoid(output.logits) - SIZES.start).max() < 0.05
    assert np.ptp(output.logits) > 0


def test_a_start_from_left_to_right_loses_chance_with_each_masked_position_to_the_left():
    heads = Heads.over_positions(dataclasses.replace(SIZES, start=0.9, start_decay=2.0), True)
    params = jax.jit(heads.init)(jax.random.key(0))
    seen = observations(20)
    masked = seen.positions[..., 1]
    before = np.stack([masked[:, :i].sum(axis=1) for i in range(G)], axis=1)
    logits = jax.jit(heads.apply)(params, seen).logits
    assert np.abs(logits - (np.log(0.9 / 0.1) - 2.0 * before)).max() < 0.2
    heads = Heads.over_positions(dataclasses.replace(SIZES, start=0.9), True)
    assert "decay" not in jax.eval_shape(heads.init, jax.random.key(0)).actor


def test_a_start_with_the_numbers_loses_chance_with_each_masked_one_that_comes_before():
    heads = Heads.over_positions(NUMBERS, True)
    params = jax.jit(heads.init)(jax.random.key(0))
    seen = telling_numbers(20)
    logits = jax.jit(heads.apply)(params, seen).logits
    expected = np.log(0.9 / 0.1) - 2.0 * before_by_hand(seen)
    assert np.abs(logits - expected).max() < 0.3 and np.ptp(expected) > 4


def test_one_that_reads_rows_has_what_they_are_standardised_by():
    heads = Heads.over_positions(SIZES, True, ROWS, True)
    params = jax.jit(heads.init)(jax.random.key(0))
    assert set(params.items()) == {"actor", "statistics"}
    assert {"progress", "notation", "hidden", "confidence"} <= params.statistics.mean.keys()


def test_by_default_the_policy_is_of_the_published_size():
    """For 256 positions about 300 000 parameters (arXiv 2512.09106)."""
    from reoac_jax.policy.options import POSITIONS

    own = {key.rpartition(".")[2]: option.default for key, option in POSITIONS.items()}
    heads = Heads.over_positions(PositionSizes(gen_len=256, **own), True)
    shapes = jax.eval_shape(heads.init, jax.random.key(0))
    assert 280_000 < sum(x.size for x in jax.tree.leaves(shapes)) < 320_000
    assert dataclasses.replace(SIZES, **own).start == 0.5
