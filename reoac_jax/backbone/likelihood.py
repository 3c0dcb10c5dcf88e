"""Log-probabilities of given tokens, without all logits of a batch at once."""

from typing import Any

import jax
import jax.numpy as jnp

from reoac_jax.backbone.interface import Denoiser, Prepared
from reoac_jax.backbone.prediction import rows_per_chunk


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
    prepared = model.prepare(variables, sigma, dropout_key=dropout_key)
    hidden = model.hidden(variables, rows, lengths, prepared, dropout_key=dropout_key)
    generated = model.generated(hidden, lengths - gen_len if first is None else first, gen_len)

    @jax.checkpoint
    def head(part: tuple[jax.Array, Any, jax.Array, jax.Array]) -> jax.Array:
        """A few rows of each share, `[shares, C, ...]`, to float32 `[shares, C, G]`."""
        *arrays, key = part
        states, of_head, tokens = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), arrays)
        logits = model.logits(
            variables, states, Prepared(head=of_head),
            dropout_key=None if dropout_key is None else key,
        )  # fmt: skip
        logits = jnp.where(model.spec.drawable(), logits, -jnp.inf)
        log_probs = jax.nn.log_softmax(logits, axis=-1)
        chosen = jnp.take_along_axis(log_probs, tokens[:, :, None], axis=-1)
        return chosen.reshape(shares, -1, gen_len)

    share = rows.shape[0] // shares
    chunk = rows_per_chunk(share, gen_len, model.spec.vocab_size)
    head_key = jax.random.key(0) if dropout_key is None else jax.random.fold_in(dropout_key, 1)
    keys = jax.random.split(head_key, share // chunk)
    chunks = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(shares, -1, chunk, *x.shape[1:]), 1, 0),
        (generated, prepared.head_rows(rows.shape[0]), reference),
    )
    log_probs = jax.lax.map(head, (*chunks, keys))
    return jnp.moveaxis(log_probs, 0, 1).reshape(rows.shape[0], gen_len)
