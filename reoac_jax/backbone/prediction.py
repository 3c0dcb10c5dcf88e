"""What the denoising loop needs of the backbone at each step, without the logits leaving it.

SUBS (Sahoo et al. 2024, section 3.2.3): the mask token has probability 0, so it can never be
written; that a revealed token stays is the update rules' part.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.interface import Denoiser, Prepared
from reoac_jax.backbone.products import products


class TokenPrediction(NamedTuple):
    """Of one token distribution each; leading axes are those of the positions.

    token: int32, drawn or the most probable. confidence: float32, its probability.
    entropy: float32, nats. margin: float32, between the two highest probabilities; 0 unless
    `DrawSettings.margin`. All of the SUBS distribution at temperature 1.
    """

    token: jax.Array
    confidence: jax.Array
    entropy: jax.Array
    margin: jax.Array


class Prediction(NamedTuple):
    """The backbone's view of a batch of rows.

    tokens: `TokenPrediction` over the generated positions `[B, G]`.
    pooled: float32 `[B, D]`, mean hidden state over a row's real tokens.
    """

    tokens: TokenPrediction
    pooled: jax.Array


@dataclasses.dataclass(frozen=True)
class DrawSettings:
    """strategy: "sample" or "argmax". temperature: of the draw alone. margin: measure it too."""

    strategy: str
    temperature: float
    margin: bool = False


def predict_tokens(
    logits: jax.Array, uniforms: jax.Array, drawable: jax.Array, draw: DrawSettings
) -> TokenPrediction:
    """Draws a token from each SUBS distribution and measures it.

    The draw inverts the distribution in two levels, a block of the vocabulary and then a token in
    it, with one uniform number each: no random number per vocabulary entry, and no float32 sum that
    runs over all of V. (float32 Gumbel noise distorts the tail: Zheng et al. 2024, arXiv
    2409.02908.)

    Args:
      logits: float32 `[N, V]`, raw.
      uniforms: float32 `[N, 2]` in [0, 1); not read by "argmax".
      drawable: bool `[V]`, the ids that may be drawn (`ModelSpec.drawable`), at least one.
      draw: how to draw.

    Returns:
      `TokenPrediction` `[N]`.
    """
    logits = jnp.where(drawable, logits.astype(jnp.float32), -jnp.inf)
    peak = logits.max(axis=-1, keepdims=True)
    weights = jnp.exp(logits - peak)
    total = weights.sum(axis=-1)
    # entr-like: a term 0 * -inf, such as the mask's, is left out.
    centred = jnp.where(weights > 0, logits - peak, 0.0)
    entropy = jnp.log(total) - (weights * centred).sum(axis=-1) / total
    if draw.strategy == "argmax":
        token = jnp.argmax(logits, axis=-1)
    elif draw.temperature == 1.0:
        token = _draw(weights, uniforms)
    else:
        token = _draw(jnp.exp((logits - peak) / draw.temperature), uniforms)
    confidence = jnp.take_along_axis(weights, token[:, None], axis=-1)[:, 0] / total
    gap = jnp.zeros_like(total)
    if draw.margin:
        highest, second = jnp.moveaxis(jax.lax.top_k(weights, 2)[0], -1, 0)
        gap = (highest - second) / total
    return TokenPrediction(token.astype(jnp.int32), confidence, jnp.maximum(entropy, 0.0), gap)


def _draw(weights: jax.Array, uniforms: jax.Array) -> jax.Array:
    """An index of each row of unnormalised weights `[N, V]`, in two levels."""
    rows, size = weights.shape
    width = max(1, round(size**0.5))
    whole = size // width  # what is left of the vocabulary is one more block, without a padded copy
    sums = weights[:, : whole * width].reshape(rows, whole, width).sum(axis=-1)
    rest = weights[:, whole * width :].sum(axis=-1, keepdims=True)
    block = _invert(jnp.concatenate([sums, rest], axis=-1), uniforms[:, 0])
    # The last block's slice begins in the block before it, whose tokens do not count.
    start = jnp.minimum(block * width, size - width)
    within = jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at,), (width,)))(weights, start)
    own = start[:, None] + jnp.arange(width) >= (block * width)[:, None]
    return start + _invert(jnp.where(own, within, 0.0), uniforms[:, 1])


def _invert(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """The first index of positive weight whose cumulated weight exceeds uniform * total."""
    # A parallel sum may rise by rounding where a weight is 0: such places can never be drawn.
    possible = weights > 0
    cumulated = jnp.where(possible, jnp.cumsum(weights, axis=-1), 0.0)
    total = cumulated.max(axis=-1)
    # Rounding may lift uniform * total to the total itself, which nothing exceeds.
    threshold = jnp.minimum(uniform * total, jnp.nextafter(total, jnp.zeros_like(total)))
    return jnp.argmax(possible & (cumulated > threshold[:, None]), axis=-1)


def assemble_rows(
    prompt: jax.Array, prompt_lengths: jax.Array, generated: jax.Array, pad_id: int
) -> tuple[jax.Array, jax.Array]:
    """Rows `[prompt | generated | pad]`.

    Args:
      prompt: int32 `[B, P]`, right-padded. prompt_lengths: int32 `[B]`. generated: int32 `[B, G]`.

    Returns:
      tokens int32 `[B, P + G]` and lengths int32 `[B]`.
    """
    gen_len = generated.shape[1]
    position = jnp.arange(prompt.shape[1] + gen_len)[None, :]
    offset = position - prompt_lengths[:, None]
    from_generated = jnp.take_along_axis(generated, jnp.clip(offset, 0, gen_len - 1), axis=1)
    from_prompt = jnp.pad(prompt, ((0, 0), (0, gen_len)))
    rows = jnp.where(offset < 0, from_prompt, jnp.where(offset < gen_len, from_generated, pad_id))
    return rows, prompt_lengths + gen_len


def prompt_width(longest: int) -> int:
    """Columns to which prompts of at most `longest` tokens are padded: few shapes to compile.

    A multiple of 8 up to 64, of 16 up to 128, beyond it of 32: 16 widths up to 256.
    """
    multiple = 8 if longest <= 64 else 16 if longest <= 128 else 32
    return -(-longest // multiple) * multiple


def rows_per_chunk(batch: int, gen_len: int, vocab_size: int) -> int:
    """How many rows' logits `[G, V]` may exist at a time: at least one, a divisor of `batch`."""
    most = min(batch, max(1, products().logits_at_a_time // (gen_len * vocab_size)))
    return max(rows for rows in range(1, most + 1) if batch % rows == 0)


def predict(
    model: Denoiser,
    variables: Any,
    prepared: Prepared,
    rows: jax.Array,
    lengths: jax.Array,
    gen_len: int,
    uniforms: jax.Array,
    draw: DrawSettings,
) -> Prediction:
    """One forward pass; the head sees only the last `gen_len` real positions of each row.

    Args:
      model, variables: the backbone and its collections ("params", and "lora" for an overlay).
      prepared: from `model.prepare`.
      rows: int32 `[B, L]`. lengths: int32 `[B]`. uniforms: float32 `[B, G, 2]`.
    """
    spec, batch = model.spec, rows.shape[0]
    hidden = model.hidden(variables, rows, lengths, prepared)
    generated = model.generated(hidden, lengths - gen_len, gen_len)

    def head(part: tuple[jax.Array, Any, jax.Array]) -> TokenPrediction:
        """A few rows, `[C, ...]`; results `[C, G]`."""
        states, of_head, noise = part
        logits = model.logits(variables, states, Prepared(head=of_head))
        flat = logits.reshape(-1, logits.shape[-1]), noise.reshape(-1, 2)
        tokens = predict_tokens(*flat, spec.drawable(), draw)
        return jax.tree.map(lambda x: x.reshape(noise.shape[:2]), tokens)

    chunk = rows_per_chunk(batch, gen_len, spec.vocab_size)
    chunks = jax.tree.map(
        lambda x: x.reshape(-1, chunk, *x.shape[1:]),
        (generated, prepared.head_rows(batch), uniforms),
    )
    tokens = jax.tree.map(lambda x: x.reshape(batch, gen_len), jax.lax.map(head, chunks))
    real = jnp.arange(rows.shape[1]) < lengths[:, None]
    pooled = jnp.where(real[:, :, None], hidden, 0.0).sum(axis=1) / lengths[:, None]
    return Prediction(tokens, pooled)
