"""Heads that see rows: the encoder against NumPy, its table of tokens, and what its inputs are
standardised by."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from support.plain_layers import PlainLayers

from reoac_jax.policy.heads import Head, Heads
from reoac_jax.policy.observation import Observation, PositionRows, with_hidden
from reoac_jax.policy.rows import RowEncoder, TokenEmbedding, hashed_rows
from reoac_jax.policy.statistics import RunningStatistics

apply_encoder = jax.jit(RowEncoder.apply, static_argnums=0)
updated = jax.jit(RunningStatistics.updated)
apply_heads = jax.jit(Heads.apply, static_argnums=0)
SIZES = dataclasses.replace(toy.ROWS, layers=2)
G, D, WIDTH = SIZES.gen_len, SIZES.hidden_dim, SIZES.width


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    shape = (count, G)
    return PositionRows(
        token=rng.integers(0, SIZES.vocab_size, shape).astype(np.int32),
        confidence=rng.random(shape).astype(np.float32),
        entropy=rng.standard_normal(shape).astype(np.float32),
        masked=rng.random(shape) < 0.5,
        hidden=rng.standard_normal((*shape, D)).astype(np.float32),
    )


def observations(count, seed=0):
    rng = np.random.default_rng([seed, 1])
    alignment = (3.0 + 2.0 * rng.standard_normal((count, 11))).astype(np.float32)
    return Observation(alignment, rows=rows(count, seed))


@pytest.fixture(scope="module")
def encoder():
    module = RowEncoder(SIZES)
    params = jax.jit(module.init)(jax.random.key(0), rows(1))["params"]
    return module, toy.randomise(params, 1, 0.3)


def plain_encoder(params, seen):
    """In float64, one row at a time."""
    layers, results = PlainLayers(params), []
    for i in range(len(seen.token)):
        sure = np.stack([seen.confidence[i], seen.entropy[i], seen.masked[i]], axis=-1)
        x = layers.dense("hidden", seen.hidden[i]) + layers.dense("sure", sure)
        x = x + layers.params["place"]
        x = x + layers.params["token"]["Embed_0"]["embedding"][seen.token[i]]
        for layer in range(SIZES.layers):
            before = layers.norm(f"LayerNorm_{2 * layer}", x)
            x = x + layers.attention(f"_Attention_{layer}", before, SIZES.attention_heads)
            before = layers.norm(f"LayerNorm_{2 * layer + 1}", x)
            x = x + layers.mlp(f"Dense_{2 * layer}", f"Dense_{2 * layer + 1}", before)
        results.append(layers.norm(f"LayerNorm_{2 * SIZES.layers}", x))
    return np.stack(results)


def test_the_encoder_equals_a_plain_one_and_rows_do_not_see_each_other(encoder):
    module, params = encoder
    seen = rows(5)
    got = apply_encoder(module, {"params": params}, seen)
    assert got.shape == (5, G, WIDTH)
    np.testing.assert_allclose(got, plain_encoder(params, seen), atol=1e-4)
    alone = apply_encoder(module, {"params": params}, jax.tree.map(lambda x: x[3:4], seen))
    np.testing.assert_allclose(alone[0], got[3], atol=1e-5)


def test_a_gradient_reaches_every_weight_and_every_input(encoder):
    module, params = encoder
    seen = rows(6)
    inputs = {name: getattr(seen, name) for name in ("hidden", "confidence", "entropy")}

    def loss(params, inputs):
        encoded = module.apply({"params": params}, seen._replace(**inputs))
        return jnp.square(encoded - jnp.arange(float(WIDTH))).sum()

    # Optimised: without, XLA's CPU compiler (jaxlib 0.10) makes NaN of this gradient.
    optimised = {"xla_backend_optimization_level": 3}
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=optimised)
    gradients = gradient(params, inputs)
    used = np.unique(seen.token)
    table = gradients[0]["token"]["Embed_0"].pop("embedding")
    assert (np.abs(table[used]).max(axis=1) > 0).all()
    assert not np.delete(np.asarray(table), used, axis=0).any()
    for path, gradient in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, path


def test_masks_and_tokens_are_seen(encoder):
    module, params = encoder
    seen = rows(5)
    before = apply_encoder(module, {"params": params}, seen)
    other = (seen.token + 1) % SIZES.vocab_size
    for changed in (seen._replace(masked=~seen.masked), seen._replace(token=other)):
        after = apply_encoder(module, {"params": params}, changed)
        assert (np.abs(after - before).max(axis=(1, 2)) > 1e-3).all()


@pytest.mark.parametrize(("vocabulary", "rows"), [(14, 4096), (50258, 4096)])
def test_every_token_has_a_vector_of_its_own(vocabulary, rows):
    """In a table of its size, or by two hashes of which hardly any two tokens share both."""
    module = TokenEmbedding(vocabulary, 4, rows)
    tokens = np.arange(vocabulary, dtype=np.int32)
    params = module.init(jax.random.key(0), tokens)
    assert params["params"]["Embed_0"]["embedding"].shape == (min(vocabulary, rows), 4)
    vectors = np.asarray(module.apply(params, tokens))
    assert vectors.shape == (vocabulary, 4)
    if vocabulary <= rows:
        np.testing.assert_array_equal(vectors, params["params"]["Embed_0"]["embedding"])
        return
    pairs = np.stack([np.asarray(row) for row in hashed_rows(jnp.asarray(tokens), rows)])
    assert pairs.min() >= 0 and pairs.max() < rows
    # Chance alone lets V^2 / (2 rows^2), about 75, pairs of tokens share both.
    assert len(np.unique(pairs, axis=1).T) > vocabulary - 1000
    for row in pairs:
        assert np.bincount(row, minlength=rows).max() < 60  # 12 on the mean


def plain_moments(batches):
    """Mean and standard deviation of everything seen, by part."""
    joined = {"alignment": np.concatenate([b.alignment for b in batches])}
    for name in ("hidden", "confidence", "entropy"):
        values = np.concatenate([getattr(b.rows, name) for b in batches])
        joined[name] = values.reshape(-1, values.shape[-1] if name == "hidden" else 1)
    joined = {name: values.astype(np.float64) for name, values in joined.items()}
    return {name: (x.mean(axis=0), x.std(axis=0)) for name, x in joined.items()}


def test_statistics_are_those_of_everything_seen_and_padding_is_not_seen():
    batches = [observations(count, seed) for seed, count in enumerate((7, 3, 12))]
    statistics = RunningStatistics.start(batches[0])
    for number, batch in enumerate(batches):
        filled = jax.tree.map(lambda x: np.concatenate([x, 50 + 0 * x[:2]]), batch)
        real = (np.arange(len(batch.alignment) + 2) < len(batch.alignment)).astype(np.float32)
        statistics = updated(statistics, filled, real)
        wanted = plain_moments(batches[: number + 1])
        assert statistics.mean.keys() == wanted.keys()
        for name, (mean, deviation) in wanted.items():
            np.testing.assert_allclose(statistics.mean[name], mean, atol=1e-5)
            np.testing.assert_allclose(statistics.variance[name], deviation**2, atol=1e-4)
    seen = statistics.standardise(batches[0])
    mean, deviation = plain_moments(batches)["hidden"]
    np.testing.assert_allclose(
        seen.rows.hidden, (batches[0].rows.hidden - mean) / deviation, atol=1e-4
    )
    np.testing.assert_array_equal(seen.rows.token, batches[0].rows.token)
    np.testing.assert_array_equal(seen.rows.masked, batches[0].rows.masked)
    assert seen.rows.confidence.shape == batches[0].rows.confidence.shape


def test_statistics_of_nothing_and_of_what_never_varied():
    seen = observations(4)
    start = RunningStatistics.start(seen)
    jax.tree.map(np.testing.assert_array_equal, start.standardise(seen), seen)
    still = jax.tree.map(lambda x: np.ones_like(x), seen)
    statistics = start.updated(still, np.ones(4, np.float32))
    assert not np.abs(statistics.standardise(still).alignment).max()
    far = statistics.standardise(seen._replace(alignment=seen.alignment + 1e6))
    np.testing.assert_array_equal(far.alignment, 10.0)


def test_old_batches_fade():
    """After 100 batches of one distribution, as many of another all but replace it."""
    seen = observations(5)
    statistics, ones = RunningStatistics.start(seen), np.ones(5, np.float32)
    other = seen._replace(alignment=seen.alignment + 100)
    for number in range(600):
        statistics = updated(statistics, seen if number < 100 else other, ones)
    assert float(statistics.seen) == 500
    wanted = other.alignment.mean(axis=0)
    np.testing.assert_allclose(statistics.mean["alignment"], wanted, atol=1.0)


def test_what_is_read_of_the_notation_is_standardised():
    rng = np.random.default_rng(0)
    notation = (2 + 5 * rng.random((64, 16)) * (np.arange(16) > 0)).astype(np.float32)
    seen = Observation(observations(64).alignment, notation=notation)
    known = updated(RunningStatistics.start(seen), seen, np.ones(64, np.float32))
    standard = np.asarray(known.standardise(seen).notation)
    np.testing.assert_allclose(standard.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(standard.std(axis=0), np.arange(16) > 0, atol=1e-4)


def test_a_head_reads_mean_and_maximum_over_the_positions(encoder):
    _, params = encoder
    head = Head((), 4 * WIDTH, ("alignment",), SIZES)
    seen = observations(3)
    # The identity in the place of the last layer, behind the features.
    kernel = np.eye(11 + 2 * WIDTH, 4 * WIDTH, dtype=np.float32)
    own = {"RowEncoder_0": params, "Dense_0": {"kernel": kernel, "bias": np.zeros(4 * WIDTH)}}
    got = np.asarray(jax.jit(head.apply)({"params": own}, seen))[:, 11 : 11 + 2 * WIDTH]
    encoded = plain_encoder(params, seen.rows)
    wanted = np.concatenate([encoded.mean(axis=1), encoded.max(axis=1)], axis=-1)
    np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.slow
def test_heads_that_see_rows_read_features_too():
    heads = Heads.create((8,), (8,), D, False, False, False, 5, SIZES)
    params = jax.jit(heads.init)(jax.random.key(0))
    assert set(params.items()) == {"actor", "critic", "statistics"}
    params = params._replace(actor=toy.randomise(params.actor, 1))
    seen = observations(6)
    before = apply_heads(heads, params, seen)
    assert before.logits.shape == before.q.shape == (6, 5)
    for changed in (
        seen._replace(alignment=seen.alignment + 1),
        with_hidden(seen, seen.rows.hidden + 1),
    ):
        assert np.abs(apply_heads(heads, params, changed).logits - before.logits).max() > 1e-3
    known = params._replace(statistics=updated(params.statistics, seen, np.ones(6, np.float32)))
    scaled = with_hidden(seen._replace(alignment=2 * seen.alignment), 3 * seen.rows.hidden - 1)
    rescaled = updated(params.statistics, scaled, np.ones(6, np.float32))
    np.testing.assert_allclose(
        apply_heads(heads, known, seen).logits,
        apply_heads(heads, params._replace(statistics=rescaled), scaled).logits,
        atol=1e-3,
    )


def test_heads_of_features_have_no_statistics():
    heads = Heads.create((8,), (8,), D, False, False, False, 5)
    params = heads.init(jax.random.key(0))
    assert set(params.items()) == {"actor", "critic"}
    seen = observations(3)
    assert heads.standardised(params, seen) is seen
