"""Bidirectional attention over right-padded rows, and the rotary position embedding."""

from typing import Literal

import jax
import jax.numpy as jnp

from reoac_jax.backbone.products import products

IMPLEMENTATIONS = ("auto", "xla", "cudnn")
Implementation = Literal["xla", "cudnn"]
ROTARY_BASE = 10000.0  # RoFormer's own, and MDLM's


def choose_implementation(
    requested: str, dtype: jnp.dtype, head_dim: int, backend: str | None = None
) -> Implementation:
    """Chooses the attention kernel once, from the config's word, the compute dtype and the backend.

    Args:
      requested: "auto", "xla" or "cudnn". "auto" is cuDNN's fused kernel for 16-bit types on a GPU.
      dtype: the compute dtype.
      head_dim: width of a head; the fused kernel takes multiples of 8 up to 128.
      backend: "cpu", "gpu", ...; JAX's default backend if None.

    Returns:
      "xla" or "cudnn".

    Raises:
      ValueError: for an unknown word, or "cudnn" where that kernel cannot run.
    """
    if requested not in IMPLEMENTATIONS:
        raise ValueError(
            f"attention is {requested!r}; expected one of {', '.join(IMPLEMENTATIONS)}"
        )
    backend = jax.default_backend() if backend is None else backend
    fused_runs = (
        backend == "gpu"
        and jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16)
        and head_dim % 8 == 0
        and head_dim <= 128
    )
    if requested == "cudnn" and not fused_runs:
        raise ValueError(
            "attention 'cudnn' needs a GPU, a 16-bit compute dtype and heads of width 8, 16, ... "
            f"128; this is {backend} with {jnp.dtype(dtype).name} and width {head_dim}"
        )
    if requested == "auto":
        return "cudnn" if fused_runs else "xla"
    return "cudnn" if requested == "cudnn" else "xla"


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    lengths: jax.Array,
    implementation: Implementation,
) -> jax.Array:
    """Softmax attention scaled by 1/sqrt(head_dim); keys at or beyond a row's length are masked.

    Args:
      query: `[B, L, heads, head_dim]`, of these or some of these positions.
      key, value: `[B, L, key-value heads, head_dim]`; fewer heads than the query's are each shared
        by a run of heads / key-value heads neighbours (Ainslie et al. 2023, arXiv 2305.13245).
      lengths: int32 `[B]`, at least 1. Given as lengths and not as a mask: the fused kernel takes
        lengths, and is slow or refuses with a mask.
      implementation: "xla" or "cudnn", from `choose_implementation`.

    Returns:
      `[B, L, heads, head_dim]` in the query's dtype. Rows beyond `lengths` hold no meaning.
    """
    if implementation == "cudnn":
        return jax.nn.dot_product_attention(
            query, key, value, key_value_seq_lengths=lengths, implementation="cudnn"
        )
    return products().attention(query, key, value, lengths)


def rotary_table(
    length: int, head_dim: int, base: float = ROTARY_BASE
) -> tuple[jax.Array, jax.Array]:
    """Of the positions 0 .. L, as `rotary_at` gives it."""
    return rotary_at(jnp.arange(length), head_dim, base)


def rotary_at(positions: jax.Array, head_dim: int, base: float) -> tuple[jax.Array, jax.Array]:
    """Cosines and sines of position * base^(-2k/head_dim), float32 `[..., head_dim / 2]` each.

    positions: integers `[...]`.
    """
    frequency = rotary_frequencies(head_dim, base)
    angle = positions.astype(jnp.float32)[..., None] * frequency
    return jnp.cos(angle), jnp.sin(angle)


def rotary_frequencies(head_dim: int, base: float = ROTARY_BASE) -> jax.Array:
    """Angle per position: float32 `[head_dim / 2]` (RoFormer, equation 15)."""
    return 1.0 / (base ** (jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim))


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Rotates `[B, L, heads, head_dim]` by position, two-halves form, in the tables' dtype.

    cosine, sine: `[L, head_dim / 2]`, or `[B, L, head_dim / 2]` where rows differ in it.
    """
    first, second = jnp.split(x.astype(cosine.dtype), 2, axis=-1)
    cosine, sine = cosine[..., None, :], sine[..., None, :]
    rotated = [first * cosine - second * sine, second * cosine + first * sine]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
