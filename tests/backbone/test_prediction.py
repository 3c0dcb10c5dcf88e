"""The draw under SUBS, the measures of a distribution, and the forward pass of a rollout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from support import toy

from reoac_jax.backbone import prediction
from reoac_jax.backbone.draw import DrawSettings, measured, predict_tokens
from reoac_jax.backbone.prediction import assemble_rows, predict
from reoac_jax.backbone.products import CPU

pytestmark = [pytest.mark.as_used, pytest.mark.slow]


SAMPLE, ARGMAX = DrawSettings("sample", 1.0), DrawSettings("argmax", 1.0)
BELOW_ONE = np.float32(1 - 2**-24)


@functools.partial(jax.jit, static_argnums=(2, 3))
def tokens_of(logits, uniforms, mask_id, draw):
    return predict_tokens(logits, uniforms, jnp.arange(logits.shape[-1]) != mask_id, draw)


@functools.partial(jax.jit, static_argnums=(2, 3))
def draws(logits, uniforms, mask_id, draw):
    """Tokens [N] of one distribution [V], one for each pair of uniforms [N, 2]."""
    return jax.vmap(lambda pair: tokens_of(logits[None], pair[None], mask_id, draw).token[0])(
        uniforms
    )


@functools.partial(jax.jit, static_argnums=0)
def whole_pass(model, *arguments):
    return model.apply(*arguments)


def subs(logits, mask_id, temperature=1.0):
    """float64 probabilities, the mask's 0."""
    logits = np.asarray(logits, np.float64).copy()
    logits[..., mask_id] = -np.inf
    weights = np.exp((logits - logits.max(axis=-1, keepdims=True)) / temperature)
    return weights / weights.sum(axis=-1, keepdims=True)


def distribution(shape, size, rng):
    if shape == "flat":
        return 0.3 * rng.standard_normal(size).astype(np.float32)
    logits = 2.0 * rng.standard_normal(size).astype(np.float32)
    logits[rng.integers(0, size - 1)] = logits.max() + 2
    return logits


@pytest.mark.parametrize(
    ("shape", "size", "temperature"),
    [
        ("peaked", 7, 0.6), ("flat", 300, 1.0), ("flat", 5000, 0.6), ("peaked", 5000, 1.7),
    ],
)  # fmt: skip
def test_drawn_frequencies(shape, size, temperature):
    """Chi-square of 200 000 draws; rare tokens are counted together."""
    rng = np.random.default_rng(size)
    logits, mask_id, count = distribution(shape, size, rng), size - 1, 200_000
    uniforms = rng.random((count, 2), np.float32)
    drawn = draws(logits, uniforms, mask_id, DrawSettings("sample", temperature))
    observed = np.bincount(np.asarray(drawn), minlength=size)
    expected = count * subs(logits, mask_id, temperature)
    assert observed[expected == 0].sum() == 0
    order = np.argsort(expected)[(expected == 0).sum() :]
    bins = (np.cumsum(expected[order]) // 50).astype(int)  # neighbours of about equal frequency
    observed, expected = (np.bincount(bins, x[order]) for x in (observed, expected))
    kept = expected > 0
    assert kept.sum() >= 4
    test = stats.chisquare(observed[kept], expected[kept] * (count / expected.sum()))
    assert test.pvalue > 1e-3


def test_a_tail_of_tiny_probabilities_is_drawn_as_often_as_it_should():
    """50 000 tokens of 2e-8 each: one float32 sum over them behind a 1 would lose them all."""
    size, count = 50_000, 100_000
    logits = np.full(size, np.log(2e-8), np.float32)
    logits[0] = 0.0
    rng = np.random.default_rng(0)
    uniforms = rng.random((count, 2), np.float32)
    uniforms[:, 0] = (np.arange(count) + 0.5) / count  # stratified: the share is near exact
    drawn = np.asarray(draws(logits, uniforms, size - 1, SAMPLE))
    expected = count * (1 - subs(logits, size - 1)[0])
    assert expected == pytest.approx(100, rel=0.01)
    assert (drawn != 0).sum() == pytest.approx(expected, rel=0.05)
    tail = drawn[drawn != 0]
    assert len(set(tail.tolist())) > 90 and stats.kstest(tail / size, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("size", "draw"),
    [(size, SAMPLE) for size in (2, 3, 16, 23, 300)]
    + [(size, draw) for draw in (DrawSettings("sample", 0.3), ARGMAX) for size in (2, 300)],
)
def test_every_draw_has_mass(size, draw):
    """Whatever the distribution, and uniforms at both ends of [0, 1)."""
    rng = np.random.default_rng(size)
    rows = 600
    logits = rng.choice([0.1, 3.0, 60.0], (rows, 1)) * rng.standard_normal((rows, size))
    logits[rng.random((rows, size)) < rng.choice([0.0, 0.5, 0.95], (rows, 1))] = -np.inf
    mask_id = int(rng.integers(0, size))
    sure = (mask_id + 1 + rng.integers(0, size - 1, rows)) % size
    logits[np.arange(rows), sure] = rng.standard_normal(rows)
    logits[:, mask_id] = 1e30
    logits[:20] = -np.inf
    logits[np.arange(20), sure[:20]] = 0.0  # one token has all the mass
    ends = np.array([0.0, 2**-24, 0.5, BELOW_ONE], np.float32)
    uniforms = rng.choice(ends, (rows, 2))
    logits = logits.astype(np.float32)
    out = tokens_of(logits, uniforms, mask_id, draw)
    token = np.asarray(out.token)
    probabilities = subs(logits, mask_id)
    assert token.dtype == np.int32 and (token >= 0).all() and (token < size).all()
    assert (token != mask_id).all()
    assert (subs(logits, mask_id, draw.temperature)[np.arange(rows), token] > 0).all()
    np.testing.assert_array_equal(token[:20], sure[:20])
    if draw == ARGMAX:
        np.testing.assert_array_equal(token, probabilities.argmax(axis=-1))
    np.testing.assert_allclose(
        out.confidence, probabilities[np.arange(rows), token], rtol=2e-5, atol=1e-30
    )
    entropy = special.entr(probabilities).sum(axis=-1)
    np.testing.assert_allclose(out.entropy, entropy, atol=2e-5, rtol=1e-5)
    assert (np.asarray(out.entropy) >= 0).all()


def test_the_draw_temperature_leaves_the_measures_alone():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((50, 30)).astype(np.float32)
    logits[:, 4] += 40.0  # one token is certain, so that every draw is the same
    uniforms = rng.random((50, 2), np.float32)
    hot = tokens_of(logits, uniforms, 29, DrawSettings("sample", 1.5))
    jax.tree.map(np.testing.assert_array_equal, hot, tokens_of(logits, uniforms, 29, SAMPLE))


def test_margin():
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((50, 30)).astype(np.float32)
    logits[:, 7] = 50.0  # the mask
    logits[0, 3:5] = 20.0  # a tie
    uniforms = rng.random((50, 2), np.float32)
    got = tokens_of(logits, uniforms, 7, DrawSettings("sample", 0.5, margin=True)).margin
    ordered = np.sort(subs(logits, 7), axis=-1)
    np.testing.assert_allclose(got, ordered[:, -1] - ordered[:, -2], atol=1e-5)
    assert tokens_of(logits, uniforms, 7, SAMPLE).margin is None  # nobody asked


@pytest.mark.parametrize(
    ("temperature", "top_p", "keep_crossing"),
    [
        (1.0, 0.0, False), (1.0, 0.3, True), (1.0, 0.8, False), (1.0, 0.999, True),
        (0.5, 0.8, True), (0.5, 0.3, False),
    ],
)  # fmt: skip
def test_the_nucleus_and_what_is_drawn_from_it(top_p, keep_crossing, temperature):
    rng = np.random.default_rng(3)
    size, rows = 40, 3000
    logits = np.repeat(3 * rng.standard_normal((6, size)), rows // 6, axis=0).astype(np.float32)
    logits[:500, 5:8] = 4.0  # ties: the leftmost first
    draw = DrawSettings("sample", temperature, top_p, keep_crossing, drawn=True)
    got = tokens_of(logits, rng.random((rows, 2), np.float32), size - 1, draw)
    at_temperature = subs(logits, size - 1, temperature)
    for row in range(0, rows, 500):
        p, inside, total = at_temperature[row], [], 0.0
        for token in np.argsort(-p, kind="stable"):
            if inside and (total >= top_p or (not keep_crossing and total + p[token] > top_p)):
                break
            inside.append(token)
            total += p[token]
        mine = slice(row, row + 500)
        drawn = np.asarray(got.token[mine])
        expected = np.where(np.isin(np.arange(size), inside), p, 0) / total
        assert set(drawn.tolist()) <= set(inside)
        often = expected > 0.02
        counts = np.bincount(drawn, minlength=size)
        np.testing.assert_allclose(counts[often] / 500, expected[often], atol=0.1)
        np.testing.assert_allclose(got.drawn[mine], expected[drawn], rtol=1e-4)
    plain = subs(logits, size - 1)[np.arange(rows), got.token]
    np.testing.assert_allclose(got.confidence, plain, rtol=1e-4)  # of p as a whole


def test_standing_ending_and_divergence():
    rng = np.random.default_rng(4)
    logits, before = 2 * rng.standard_normal((2, 60, 25)).astype(np.float32)
    standing, ends = rng.integers(0, 24, 60), np.isin(np.arange(25), [3, 11])
    seen = rng.random(60) < 0.7
    draw = DrawSettings("argmax", 1.0, standing=True, ending=True, divergence=True)
    beside = prediction.Beside(jnp.array(standing), jnp.array(ends), jnp.array(before),
                               jnp.array(seen))  # fmt: skip
    drawable = jnp.arange(25) != 24
    got = jax.jit(lambda: predict_tokens(jnp.array(logits), jnp.zeros((60, 2)), drawable, draw,
                                         beside))()  # fmt: skip
    p, q = subs(logits, 24), subs(before, 24)
    q[~seen] = 0
    np.testing.assert_allclose(got.standing, p[np.arange(60), standing], rtol=1e-4)
    np.testing.assert_allclose(got.ending, p[:, ends].sum(axis=1), rtol=1e-4)
    kl = (p * np.log((p + 1e-12) / (q + 1e-12))).sum(axis=1)
    np.testing.assert_allclose(got.divergence, kl, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="asked for"):
        measured(got.margin)


def test_assemble_rows():
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 90, (60, 7)).astype(np.int32)
    lengths = rng.integers(1, 8, 60).astype(np.int32)
    generated = rng.integers(0, 90, (60, 5)).astype(np.int32)
    rows, row_lengths = jax.jit(assemble_rows, static_argnums=3)(prompt, lengths, generated, 99)
    expected = [
        [*p[:n], *g, *[99] * (7 - n)] for p, n, g in zip(prompt, lengths, generated, strict=True)
    ]
    np.testing.assert_array_equal(rows, np.array(expected))
    np.testing.assert_array_equal(row_lengths, lengths + 5)


@pytest.mark.parametrize(
    "room, chunk_rows, time_conditioning",
    [(1, 1, False), (2, 2, True), (5, 3, False), (None, 6, True)],
)
def test_predict_equals_the_full_forward_pass(monkeypatch, room, chunk_rows, time_conditioning):
    batch, gen_len, width = 6, 4, 6
    if room is not None:
        elements = room * gen_len * toy.VOCAB_SIZE
        few = CPU._replace(logits_at_a_time=elements)
        monkeypatch.setattr(prediction, "products", lambda: few)
    assert prediction.rows_per_chunk(batch, gen_len, toy.VOCAB_SIZE) == chunk_rows
    model, params = toy.backbone(1, time_conditioning=time_conditioning, blocks=1)
    variables = {"params": params}
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, toy.VOCAB_SIZE, (batch, width)).astype(np.int32)
    generated = rng.integers(0, toy.VOCAB_SIZE, (batch, gen_len)).astype(np.int32)
    rows, lengths = assemble_rows(prompt, np.array([1, 6, 3, 4, 2, 5], np.int32), generated, 0)
    uniforms = rng.random((batch, gen_len, 2), np.float32)
    sigma = rng.random(batch, np.float32)

    @jax.jit
    def in_chunks(variables):
        prepared = model.prepare(variables, sigma)
        return predict(model, variables, prepared, rows, lengths, gen_len, uniforms, SAMPLE)

    full = whole_pass(model, variables, rows, lengths, sigma)
    got = in_chunks(variables)
    for row in range(batch):
        end = int(lengths[row])
        place = slice(end - gen_len, end)
        logits = full.logits[row, place]
        expected = tokens_of(logits, uniforms[row], toy.MASK_ID, SAMPLE)
        np.testing.assert_array_equal(got.tokens.token[row], expected.token)
        np.testing.assert_allclose(got.tokens.confidence[row], expected.confidence, atol=1e-5)
        np.testing.assert_allclose(got.tokens.entropy[row], expected.entropy, atol=1e-5)
        pooled = np.asarray(full.hidden[row, :end]).mean(axis=0)
        np.testing.assert_allclose(got.pooled[row], pooled, atol=1e-5)
