"""Probabilities of given tokens, without all logits of a batch at once.

The head and its softmax are computed a few rows at a time and once more in the backward pass, so
that no array of batch x positions x vocabulary elements exists.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.interface import Denoiser, Prepared
from reoac_jax.backbone.prediction import rows_per_chunk
from reoac_jax.devices.sharding import saved
from reoac_jax.devices.streams import DropoutStream


class TokenStatistics(NamedTuple):
    """Of the SUBS distributions at `N` positions of each row, at some temperature.

    log_prob: float32 `[B, N]`, of the given token. entropy: float32 `[B, N]`, nats. kl: float32
    `[B, N]`, KL(present || start) over the whole vocabulary, nats; 0 where no start is given.
    """

    log_prob: jax.Array
    entropy: jax.Array
    kl: jax.Array


class Rows(NamedTuple):
    """What is asked about: tokens in place, and positions of which the probabilities are wanted.

    tokens: int32 `[B, L]`, right-padded. lengths: int32 `[B]`. target: int32 `[B, N]`, the tokens
    asked about. position: int32 `[B, N]`, where they stand, counted from `first`; None: the N
    positions from there on. first: int32 `[B]`, the first generated position; None: the generated
    part is the last `gen_len` real positions. sigma: float32 `[B]` for models that see the time.
    """

    tokens: jax.Array
    lengths: jax.Array
    target: jax.Array
    gen_len: int
    position: jax.Array | None = None
    first: jax.Array | None = None
    sigma: jax.Array | None = None


def reference_log_probs(
    model: Denoiser,
    variables: Any,
    rows: jax.Array,
    lengths: jax.Array,
    reference: jax.Array,
    sigma: jax.Array | None = None,
    dropout_key: jax.Array | None = None,
    first: jax.Array | None = None,
    shares: int = 1,
) -> jax.Array:
    """log p(reference | row) at each generated position, under SUBS (the mask has probability 0).

    The head and its softmax are computed a few rows at a time and once more in the backward pass,
    so that no array of batch x generated x vocabulary elements exists.

    Args:
      model, variables: the backbone and its collections ("params", and "lora" for an overlay).
      rows: int32 `[B, L]`.
      lengths: int32 `[B]`. reference: int32 `[B, G]`, without mask tokens.
      sigma: float32 `[B]` for models that see the time.
      dropout_key: turns dropout on.
      first: int32 `[B]`, the first generated position of each row; None: the generated part is the
        last G real positions.
      shares: equal runs of rows, a divisor of B, that different devices hold. Every step of the
        head works on rows of each, so that no device waits for, or sends, rows of another.

    Returns:
      float32 `[B, G]`.
    """
    gen_len = reference.shape[1]
    asked = Rows(rows, lengths, reference, gen_len, None, first, sigma)
    states = _states(model, variables, asked, dropout_key)

    def head(part: tuple[_States, jax.Array], key: jax.Array) -> jax.Array:
        states, tokens = part
        log_probs = _log_probs(model, variables, states, 1.0, None if dropout_key is None else key)
        return _of(log_probs, tokens)

    return _by_chunks(model, head, (states, reference), dropout_key, shares)


def token_statistics(
    model: Denoiser,
    variables: Any,
    rows: Rows,
    temperature: float = 1.0,
    start: Any = None,
    dropout_key: jax.Array | None = None,
    shares: int = 1,
) -> TokenStatistics:
    """Log-probabilities, entropies and the distance from where training started.

    Args:
      model, variables: the backbone and its collections. rows: what is asked about.
      temperature: of the distributions, those that tokens are drawn from.
      start: collections that the KL is measured from, held fixed; None: it is 0.
      dropout_key, shares: as for `reference_log_probs`.
    """
    states = _states(model, variables, rows, dropout_key)
    before = None
    if start is not None:
        start = jax.lax.stop_gradient(start)
        before = _states(model, start, rows, None)

    def head(part: tuple[_States, jax.Array, _States | None], key: jax.Array) -> TokenStatistics:
        states, tokens, before = part
        present = None if dropout_key is None else key
        log_probs = _log_probs(model, variables, states, temperature, present)
        # A term 0 * -inf, such as the mask's, is left out.
        finite = jnp.where(jnp.isfinite(log_probs), log_probs, 0.0)
        probs = jnp.exp(log_probs)
        kl = jnp.zeros_like(probs[..., 0])
        if before is not None:
            old = _log_probs(model, start, before, temperature, None)
            kl = (probs * (finite - jnp.where(jnp.isfinite(old), old, 0.0))).sum(axis=-1)
        return TokenStatistics(_of(log_probs, tokens), -(probs * finite).sum(axis=-1), kl)

    return _by_chunks(model, head, (states, rows.target, before), dropout_key, shares)


class _States(NamedTuple):
    """hidden: float32 `[B, N, D]`, of the positions asked about. head: of `Prepared`, by row."""

    hidden: jax.Array
    head: Any


def _states(model: Denoiser, variables: Any, rows: Rows, dropout_key: jax.Array | None) -> _States:
    prepared = model.prepare(variables, rows.sigma, dropout_key=dropout_key)
    hidden = model.hidden(variables, rows.tokens, rows.lengths, prepared, dropout_key=dropout_key)
    first = rows.lengths - rows.gen_len if rows.first is None else rows.first
    generated = model.generated(hidden, first, rows.gen_len)
    if rows.position is not None:
        generated = jnp.take_along_axis(generated, rows.position[:, :, None], axis=1)
    return _States(generated, prepared.head_rows(rows.tokens.shape[0]))


def _log_probs(
    model: Denoiser,
    variables: Any,
    states: _States,
    temperature: float,
    dropout_key: jax.Array | None,
) -> jax.Array:
    """float32 `[C, N, V]`: the SUBS distributions."""
    logits = model.logits(
        variables, states.hidden, Prepared(head=states.head), dropout_key=dropout_key
    )
    logits = jnp.where(model.spec.drawable(), logits, -jnp.inf)
    return jax.nn.log_softmax(logits if temperature == 1.0 else logits / temperature, axis=-1)


def _of(log_probs: jax.Array, tokens: jax.Array) -> jax.Array:
    return jnp.take_along_axis(log_probs, tokens[:, :, None], axis=-1)[:, :, 0]


def _by_chunks(
    model: Denoiser,
    head: Callable[[Any, jax.Array], Any],
    rows: tuple[_States, jax.Array, Any] | tuple[_States, jax.Array],
    dropout_key: jax.Array | None,
    shares: int,
) -> Any:
    """`head` of a few rows of each share at a time: pytree `[B, ...]` to pytree `[B, N]`."""

    @jax.checkpoint
    def chunk_of(part: tuple[Any, jax.Array]) -> Any:
        """A few rows of each share, `[shares, C, ...]`, to `[shares, C, N]`."""
        arrays, key = part
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), arrays)
        return jax.tree.map(lambda x: x.reshape(shares, -1, *x.shape[1:]), head(flat, key))

    batch, count = rows[1].shape
    share = batch // shares
    chunk = rows_per_chunk(share, count, model.spec.vocab_size)
    head_key = jax.random.key(0)  # never read
    if dropout_key is not None:
        head_key = jax.random.fold_in(dropout_key, DropoutStream.HEAD)
    keys = jax.random.split(head_key, share // chunk)
    chunks = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(shares, -1, chunk, *x.shape[1:]), 1, 0), rows
    )
    result = jax.lax.map(chunk_of, (chunks, keys))
    return saved(jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(batch, count), result))
