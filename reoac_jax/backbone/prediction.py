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

    token: int32, drawn or the most probable. The others are float32 and of p, the SUBS distribution
    at temperature 1 as a whole; those that may be None are measured if `DrawSettings` asks for it.
    confidence: p of the token. entropy: nats; of p, or of what tokens are drawn from.
    margin: between the two highest probabilities.
    drawn: probability of the token in the distribution that it was drawn from.
    standing: p of the token that stands there; of no meaning under a mask.
    ending: p of all tokens together that end a text.
    divergence: KL(p || p of the row's last pass), nats; see `_divergence`.
    likeliest: int32, the most probable token. highest: its p.
    """

    token: jax.Array
    confidence: jax.Array
    entropy: jax.Array
    margin: jax.Array | None = None
    drawn: jax.Array | None = None
    standing: jax.Array | None = None
    ending: jax.Array | None = None
    divergence: jax.Array | None = None
    likeliest: jax.Array | None = None
    highest: jax.Array | None = None


def measured(value: jax.Array | None) -> jax.Array:
    """A measure that was asked for. Raises `ValueError` where it was not."""
    if value is None:
        raise ValueError("what is read here was not asked for in DrawSettings")
    return value


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


@dataclasses.dataclass(frozen=True)
class DrawSettings:
    """How tokens are drawn, and what more of their distribution is measured.

    strategy: "sample" or "argmax". temperature: of the draw alone.
    top_p: the draw is from the fewest tokens whose probabilities, at that temperature, sum up to
      this; None: from all. Both may be traced. keep_crossing: the one that crosses it is among
      them; if not, it is left out unless it is the first.
    drawn_entropy: the entropy is that of this temperature and top-p, also where the strategy is
      argmax.
    margin, drawn, standing, ending, divergence, likeliest (with `highest`): measure that of
      `TokenPrediction`.
    """

    strategy: str
    temperature: float
    top_p: float | None = None
    keep_crossing: bool = True
    drawn_entropy: bool = False
    margin: bool = False
    drawn: bool = False
    standing: bool = False
    ending: bool = False
    divergence: bool = False
    likeliest: bool = False


class Beside(NamedTuple):
    """What the further measures of `N` distributions compare with; None: not measured.

    standing: int32 `[N]`, the tokens that stand there. ends: bool `[V]`, the tokens that end a
    text. logits: float32 `[N, V]`, raw, of the row's last pass; seen: bool `[N]`, there was one.
    """

    standing: jax.Array | None = None
    ends: jax.Array | None = None
    logits: jax.Array | None = None
    seen: jax.Array | None = None


def predict_tokens(
    logits: jax.Array,
    uniforms: jax.Array,
    drawable: jax.Array,
    draw: DrawSettings,
    beside: Beside | None = None,
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
      draw: how to draw, and what to measure. beside: what that compares with.

    Returns:
      `TokenPrediction` `[N]`.
    """
    logits = jnp.where(drawable, logits.astype(jnp.float32), -jnp.inf)
    peak = logits.max(axis=-1, keepdims=True)
    weights = jnp.exp(logits - peak)
    total = weights.sum(axis=-1)
    beside = beside or Beside()
    drawn_from, log_weights = weights, logits - peak
    if isinstance(draw.temperature, jax.Array) or draw.temperature != 1.0:
        log_weights = log_weights / draw.temperature
        drawn_from = jnp.exp(log_weights)
    if draw.top_p is not None:
        drawn_from = _nucleus(drawn_from, draw.top_p, draw.keep_crossing)
    if draw.drawn_entropy:
        entropy = _entropy(drawn_from, log_weights)
    else:
        entropy = _entropy(weights, logits - peak)
    if draw.strategy == "argmax":
        token = jnp.argmax(logits, axis=-1)
    else:
        token = _draw(drawn_from, uniforms)

    def of(token: jax.Array, weights: jax.Array) -> jax.Array:
        return jnp.take_along_axis(weights, token[:, None], axis=-1)[:, 0]

    margin = drawn = standing = ending = divergence = likeliest = highest = None
    if draw.margin:
        highest, second = jnp.moveaxis(jax.lax.top_k(weights, 2)[0], -1, 0)
        margin = (highest - second) / total
    if draw.drawn:
        drawn = of(token, drawn_from) / drawn_from.sum(axis=-1)
    if draw.standing:
        standing = of(measured(beside.standing), weights) / total
    if draw.ending:
        ending = jnp.where(measured(beside.ends), weights, 0.0).sum(axis=-1) / total
    if draw.divergence:
        before = jnp.where(drawable, measured(beside.logits).astype(jnp.float32), -jnp.inf)
        divergence = _divergence(weights / total[:, None], before, measured(beside.seen))
    if draw.likeliest:
        likeliest = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        highest = of(likeliest, weights) / total
    return TokenPrediction(
        token=token.astype(jnp.int32),
        confidence=of(token, weights) / total,
        entropy=jnp.maximum(entropy, 0.0),
        margin=margin,
        drawn=drawn,
        standing=standing,
        ending=ending,
        divergence=divergence,
        likeliest=likeliest,
        highest=highest,
    )


def _entropy(weights: jax.Array, log_weights: jax.Array) -> jax.Array:
    """Nats, float32 `[N]`, of unnormalised weights `[N, V]`; their logarithms where they are not 0.

    A term 0 * -inf, such as the mask's, is left out.
    """
    total = weights.sum(axis=-1)
    logarithms = jnp.where(weights > 0, log_weights, 0.0)
    return jnp.log(total) - (weights * logarithms).sum(axis=-1) / total


def _nucleus(weights: jax.Array, top_p: jax.Array | float, keep_crossing: bool) -> jax.Array:
    """Unnormalised weights `[N, V]` with those outside the nucleus 0 (Holtzman et al. 2020)."""
    order = jnp.argsort(-weights, axis=-1, stable=True)
    descending = jnp.take_along_axis(weights, order, axis=-1)
    reached = jnp.cumsum(descending, axis=-1)
    enough = top_p * reached[:, -1:]
    # Without the crossing token those with which the sum is not beyond; else also the next one.
    inside = reached - descending < enough if keep_crossing else reached <= enough
    inside = inside.at[:, 0].set(True)
    inside |= top_p >= 1.0  # all of them: the sum's rounding must not cut the tail
    rows = jnp.arange(len(weights))[:, None]
    return jnp.where(jnp.zeros_like(inside).at[rows, order].set(inside), weights, 0.0)


def _divergence(p: jax.Array, logits: jax.Array, seen: jax.Array) -> jax.Array:
    """float32 `[N]`: sum p log((p + 1e-12) / (q + 1e-12)), q of `logits`, 0 where not `seen`."""
    smallest = 1e-12
    q = jnp.where(seen[:, None], jax.nn.softmax(logits, axis=-1), 0.0)
    return (p * (jnp.log(p + smallest) - jnp.log(q + smallest))).sum(axis=-1)


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
    """
    hidden = model.hidden(variables, rows, lengths, prepared)
    return predict_from(
        model, variables, prepared, hidden, rows, lengths, gen_len, uniforms, draw, ends, before,
        seen, keep_states,
    )  # fmt: skip


def predict_from(
    model: Denoiser,
    variables: Any,
    prepared: Prepared,
    hidden: jax.Array,
    rows: jax.Array,
    lengths: jax.Array,
    gen_len: int,
    uniforms: jax.Array,
    draw: DrawSettings,
    ends: jax.Array | None = None,
    before: States | None = None,
    seen: jax.Array | None = None,
    keep_states: bool = False,
) -> Prediction:
    """As `predict`, of the trunk's output float32 `[B, L, D]`."""
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
