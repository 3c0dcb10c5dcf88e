"""A token drawn from each distribution of the head, and what is measured of the distribution.

SUBS (Sahoo et al. 2024, section 3.2.3): the mask token has probability 0, so it can never be
written; that a revealed token stays is the update rules' part.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp


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

    def for_attempts(self) -> "DrawSettings":
        """Of rows that are written more than once: as here the first time (`in_first_attempt`),
        then with drawn tokens."""
        return dataclasses.replace(self, strategy="sample", likeliest=self.strategy == "argmax")


def in_first_attempt(proposal: TokenPrediction, first: jax.Array) -> TokenPrediction:
    """Proposals `[B, G]` drawn as `for_attempts` says, as they are where `first`, bool `[B]`."""
    if proposal.likeliest is None:
        return proposal
    return proposal._replace(
        token=jnp.where(first[:, None], proposal.likeliest, proposal.token),
        confidence=jnp.where(first[:, None], measured(proposal.highest), proposal.confidence),
    )


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
