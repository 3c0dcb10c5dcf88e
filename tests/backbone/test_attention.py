"""Attention against float64 NumPy on ragged rows, rotary embedding against complex numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy

from reoac_jax.backbone.attention import (
    attention,
    choose_implementation,
    rotary_table,
    rotate,
)

pytestmark = pytest.mark.as_used


BATCH, LENGTH, HEADS, WIDTH = 4, 11, 3, 8
LENGTHS = np.array([11, 1, 4, 7], np.int32)
run = functools.partial(jax.jit, static_argnums=4)(attention)


@pytest.mark.parametrize(
    "requested, dtype, backend, expected",
    [
        ("auto", jnp.float32, "cpu", "xla"),
        ("auto", jnp.bfloat16, "cpu", "xla"),
        ("auto", jnp.float32, "gpu", "xla"),
        ("auto", jnp.bfloat16, "gpu", "cudnn"),
        ("auto", jnp.float16, "gpu", "cudnn"),
        ("auto", jnp.bfloat16, "tpu", "xla"),
        ("xla", jnp.bfloat16, "gpu", "xla"),
        ("xla", jnp.float32, "cpu", "xla"),
        ("cudnn", jnp.bfloat16, "gpu", "cudnn"),
        ("cudnn", jnp.float16, "gpu", "cudnn"),
        ("cudnn", jnp.float32, "gpu", "needs a GPU, a 16-bit"),
        ("cudnn", jnp.bfloat16, "cpu", "needs a GPU, a 16-bit"),
        ("cudnn", jnp.bfloat16, "tpu", "needs a GPU, a 16-bit"),
        ("flash", jnp.bfloat16, "gpu", "'flash'; expected one of auto, xla, cudnn"),
    ],
)
def test_choice_of_the_kernel(requested, dtype, backend, expected):
    if expected in ("xla", "cudnn"):
        assert choose_implementation(requested, dtype, 64, backend) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            choose_implementation(requested, dtype, 64, backend)


@pytest.mark.parametrize("head_dim, expected", [(64, "cudnn"), (20, "xla"), (136, "xla")])
def test_choice_minds_the_width_of_a_head(head_dim, expected):
    assert choose_implementation("auto", jnp.bfloat16, head_dim, "gpu") == expected


def test_choice_asks_for_the_default_backend(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choose_implementation("auto", jnp.bfloat16, 64) == "cudnn"


def inputs(dtype=jnp.float32):
    rng = np.random.default_rng(0)
    shape = (3, BATCH, LENGTH, HEADS, WIDTH)
    return jnp.asarray(2 * rng.standard_normal(shape), jnp.float32).astype(dtype)


def plain_attention(query, key, value):
    """One row and one head at a time, keys cut off at the row's length."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    out = np.zeros_like(query)
    for row in range(BATCH):
        for head in range(HEADS):
            keys, values = (x[row, : LENGTHS[row], head] for x in (key, value))
            scores = query[row, :, head] @ keys.T / np.sqrt(WIDTH)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            out[row, :, head] = weights / weights.sum(axis=1, keepdims=True) @ values
    return out


@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 0.05)])
def test_attention_of_ragged_rows(dtype, tolerance):
    query, key, value = inputs(dtype)
    got = run(query, key, value, LENGTHS, "xla")
    assert got.dtype == dtype
    real = np.arange(LENGTH) < LENGTHS[:, None]
    expected = plain_attention(query, key, value)[real]
    np.testing.assert_allclose(np.asarray(got, np.float64)[real], expected, atol=tolerance)


def test_what_stands_behind_a_row_does_not_matter():
    query, key, value = inputs()
    behind = (np.arange(LENGTH) >= LENGTHS[:, None])[:, :, None, None]
    other = run(query, jnp.where(behind, 1e4, key), jnp.where(behind, -1e4, value), LENGTHS, "xla")
    same = run(query, key, value, LENGTHS, "xla")
    np.testing.assert_array_equal(np.where(behind, 0, other), np.where(behind, 0, same))


def test_rotary_is_a_complex_rotation():
    """k and k + half are real and imaginary part, turned by position * 10000^(-2k/dim)."""
    query = inputs()[0]
    got = rotate(query, *rotary_table(LENGTH, WIDTH))
    half = WIDTH // 2
    number = np.asarray(query[..., :half], np.float64) + 1j * np.asarray(query[..., half:])
    angle = np.arange(LENGTH)[:, None] * 10000.0 ** (-2 * np.arange(half) / WIDTH)
    turned = number * np.exp(1j * angle)[None, :, None, :]
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_rotated_products_depend_on_distance_alone():
    """The same vector at every position: q_i k_j is a function of i - j."""
    query, key = (jnp.broadcast_to(x[:1, :1], (1, LENGTH, HEADS, WIDTH)) for x in inputs()[:2])
    table = rotary_table(LENGTH, WIDTH)
    scores = np.einsum("ihd,jhd->hij", rotate(query, *table)[0], rotate(key, *table)[0])
    for distance in range(1 - LENGTH, LENGTH):
        diagonal = np.diagonal(scores, distance, axis1=1, axis2=2)
        np.testing.assert_allclose(
            diagonal, diagonal[:, :1].repeat(diagonal.shape[1], 1), atol=1e-4
        )
    assert np.std(scores[:, 0]) > 0.1


def test_rotation_keeps_the_dtype():
    assert rotate(inputs(jnp.bfloat16)[0], *rotary_table(LENGTH, WIDTH)).dtype == jnp.bfloat16


@pytest.mark.slow
def test_backbone_in_bfloat16_is_close_to_float32():
    """Compute in 16 bits, accumulate and return in 32."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, toy.VOCAB_SIZE, (BATCH, LENGTH)).astype(np.int32)
    exact, params = toy.backbone(1)
    rough, _ = toy.backbone(1, dtype=jnp.bfloat16)
    want, got = (
        jax.jit(model.apply)({"params": params}, tokens, LENGTHS) for model in (exact, rough)
    )
    assert got.logits.dtype == got.hidden.dtype == jnp.float32
    real = np.arange(LENGTH) < LENGTHS[:, None]
    for x, y in zip(got, want, strict=True):
        x, y = np.asarray(x)[real], np.asarray(y)[real]
        error = np.abs(x - y).max() / np.abs(y).max()
        assert 1e-6 < error < 0.03


@pytest.mark.slow
def test_backbone_rows_do_not_see_each_other():
    """Each row alone, without padding, gives what it gives in the batch."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, toy.VOCAB_SIZE, (BATCH, LENGTH)).astype(np.int32)
    model, params = toy.backbone(1)
    apply = jax.jit(model.apply)
    batch = apply({"params": params}, tokens, LENGTHS)
    for row in (1, 2):
        size = LENGTHS[row]
        alone = apply({"params": params}, tokens[row : row + 1, :size], LENGTHS[row : row + 1])
        np.testing.assert_allclose(batch.logits[row, :size], alone.logits[0], atol=1e-4)
