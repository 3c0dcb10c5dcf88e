"""What the denoising loop needs of the backbone at each step, without the logits leaving it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import Beside, DrawSettings, TokenPrediction, predict_tokens
from reoac_jax.backbone.interface import Denoiser, Prepared
from reoac_jax.backbone.products import products


class States(NamedTuple):
    """What the logits of a pass are made from: `hidden` `[B, G, D]`, `head` as in `Prepared`."""

    hidden: jax.Array
    head: Any


class Prediction(NamedTuple):
    """The backbone's view of a batch of rows.

    tokens: `TokenPrediction` over the generated positions `[B, G]`.
    pooled: float32 `[B, D]`, mean hidden state over a row's real tokens; 0 of a pass over a window.
    states: of this pass, for the divergence of the next one, and for whoever looks at them; None
    unless that is measured, or they are asked for.
    """

    tokens: TokenPrediction
    pooled: jax.Array
    states: States | None = None


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

    A multiple of 8 up to 128, beyond it of 32: 20 widths up to 256.
    """
    multiple = 8 if longest <= 128 else 32
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
    ends: jax.Array | None = None,
    before: States | None = None,
    seen: jax.Array | None = None,
    keep_states: bool = False,
    hidden: jax.Array | None = None,
) -> Prediction:
    """One forward pass; the head sees only the last `gen_len` real positions of each row.

    For the divergence the last pass's distributions are computed again from its hidden states, a
    few rows at a time: no array of all logits exists.

    Args:
      model, variables: the backbone and its collections ("params", and "lora" for an overlay).
      prepared: from `model.prepare`.
      rows: int32 `[B, L]`. lengths: int32 `[B]`. uniforms: float32 `[B, G, 2]`.
      draw: how to draw, and what to measure; `ends`: as in `Beside`.
      before: the states of each row's last pass, where `seen`, bool `[B]`, there was one; read for
        the divergence alone. None: there was none.
      keep_states: the result has its states.
      hidden: float32 `[B, L, D]`, the trunk's output of these rows where it is there already.
    """
    if hidden is None:
        hidden = model.hidden(variables, rows, lengths, prepared)
    batch, first = rows.shape[0], lengths - gen_len
    states = States(model.generated(hidden, first, gen_len), prepared.head_rows(batch))
    position = first[:, None] + jnp.arange(gen_len)
    standing = jnp.take_along_axis(rows, position, axis=1) if draw.standing else None
    compared = None
    if draw.divergence:
        seen = jnp.zeros(batch, bool) if before is None or seen is None else seen
        compared = (states if before is None else before), seen
    tokens = predict_states(model, variables, states, uniforms, draw, ends, standing, compared)
    real = jnp.arange(rows.shape[1]) < lengths[:, None]
    pooled = jnp.where(real[:, :, None], hidden, 0.0).sum(axis=1) / lengths[:, None]
    return Prediction(tokens, pooled, states if keep_states or draw.divergence else None)


def predict_states(
    model: Denoiser,
    variables: Any,
    states: States,
    uniforms: jax.Array,
    draw: DrawSettings,
    ends: jax.Array | None,
    standing: jax.Array | None,
    compared: tuple[States, jax.Array] | None,
) -> TokenPrediction:
    """`predict_tokens` of states `[B, N, D]`, the logits of a few rows at a time; `[B, N]`.

    uniforms: float32 `[B, N, 2]`. standing: int32 `[B, N]`. compared: the states that the
    divergence is measured from, and bool `[B]`, whether there were any.
    """
    spec, (batch, count) = model.spec, uniforms.shape[:2]

    def head(part: tuple[States, jax.Array, jax.Array | None, Any]) -> TokenPrediction:
        """A few rows, `[C, ...]`; results `[C, G]`."""
        states, noise, standing, compared = part

        def logits(states: States) -> jax.Array:
            made = model.logits(variables, states.hidden, Prepared(head=states.head))
            return made.reshape(-1, made.shape[-1])

        beside = Beside(ends=ends)
        if standing is not None:
            beside = beside._replace(standing=standing.reshape(-1))
        if compared is not None:
            before, seen = compared
            beside = beside._replace(logits=logits(before), seen=jnp.repeat(seen, count))
        tokens = predict_tokens(logits(states), noise.reshape(-1, 2), spec.drawable(), draw, beside)
        return jax.tree.map(lambda x: x.reshape(noise.shape[:2]), tokens)

    chunk = rows_per_chunk(batch, count, spec.vocab_size)
    chunks = jax.tree.map(
        lambda x: x.reshape(-1, chunk, *x.shape[1:]), (states, uniforms, standing, compared)
    )
    return jax.tree.map(lambda x: x.reshape(batch, count), jax.lax.map(head, chunks))
