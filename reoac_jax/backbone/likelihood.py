"""Log-probabilities of given tokens, without all logits of a batch at once."""

from typing import Any

import jax
import jax.numpy as jnp

from reoac_jax.backbone.mdlm.model import Backbone, Modulation
from reoac_jax.backbone.prediction import rows_per_chunk


def reference_log_probs(
    model: Backbone,
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
      sigma: float32 `[B]` for time-conditioned backbones.
      dropout_key: turns dropout on.
      first: int32 `[B]`, the first generated position of each row; None: the generated part is the
        last G real positions.
      shares: equal runs of rows, a divisor of B, that different devices hold. Every step of the
        head works on rows of each, so that no device waits for, or sends, rows of another.

    Returns:
      float32 `[B, G]`.
    """
    gen_len = reference.shape[1]
    deterministic = dropout_key is None
    rngs = {} if dropout_key is None else {"dropout": dropout_key}
    modulation = model.apply(
        variables, sigma, deterministic=deterministic, method="modulation", rngs=rngs
    )
    hidden = model.apply(
        variables, rows, lengths, modulation, deterministic=deterministic, method="trunk", rngs=rngs
    )
    first = lengths - gen_len if first is None else first
    position = first[:, None] + jnp.arange(gen_len)
    generated = jnp.take_along_axis(hidden, position[:, :, None], axis=1)
    final = jnp.broadcast_to(modulation.final, (rows.shape[0], modulation.final.shape[-1]))

    @jax.checkpoint
    def head(part: tuple[jax.Array, jax.Array, jax.Array, jax.Array]) -> jax.Array:
        """A few rows of each share, `[shares, C, ...]`, to float32 `[shares, C, G]`."""
        *arrays, key = part
        states, row_final, tokens = (x.reshape(-1, *x.shape[2:]) for x in arrays)
        logits = model.apply(
            variables,
            states,
            Modulation(blocks=(), final=row_final),
            deterministic=deterministic,
            method="logits",
            rngs={} if deterministic else {"dropout": key},
        )
        logits = logits.at[:, :, model.config.mask_id].set(-jnp.inf)
        log_probs = jax.nn.log_softmax(logits, axis=-1)
        chosen = jnp.take_along_axis(log_probs, tokens[:, :, None], axis=-1)
        return chosen.reshape(shares, -1, gen_len)

    share = rows.shape[0] // shares
    chunk = rows_per_chunk(share, gen_len, model.config.vocab_size)
    head_key = jax.random.key(0) if dropout_key is None else jax.random.fold_in(dropout_key, 1)
    keys = jax.random.split(head_key, share // chunk)
    chunks = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(shares, -1, chunk, *x.shape[1:]), 1, 0),
        (generated, final, reference),
    )
    log_probs = jax.lax.map(head, (*chunks, keys))
    return jnp.moveaxis(log_probs, 0, 1).reshape(rows.shape[0], gen_len)
