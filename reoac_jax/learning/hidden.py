"""The hidden states of recorded rows, computed again: for heads that see rows they saw before."""

from typing import Any

import jax
import jax.numpy as jnp

from reoac_jax.backbone.interface import Denoiser
from reoac_jax.backbone.prediction import assemble_rows
from reoac_jax.learning.replay import RowTokens
from reoac_jax.rollout import RolloutSettings, sigma_of


def hidden_states(
    model: Denoiser,
    variables: Any,
    rows: RowTokens[jax.Array],
    settings: RolloutSettings,
    at_a_time: int,
    shares: int = 1,
) -> jax.Array:
    """float32 `[N, G, D]`: what the rollout saw of these rows at these steps, with these weights.

    Args:
      model, variables: the backbone and its collections. settings: of the rollout.
      at_a_time: rows that each device passes through the backbone together, which bounds the
        memory. shares: equal runs of rows, a divisor of N, that different devices hold.
    """
    share = rows.step.shape[0] // shares
    turns = -(-share // at_a_time)
    size = -(-share // turns)

    def by_turns(x: jax.Array) -> jax.Array:
        """`[N, ...]` to `[turns, shares, size, ...]`; the last turn is filled up with last rows."""
        parts = x.reshape(shares, share, *x.shape[1:])
        left = [(0, 0), (0, turns * size - share), *[(0, 0)] * (x.ndim - 1)]
        parts = jnp.pad(parts, left, mode="edge").reshape(shares, turns, size, *x.shape[1:])
        return jnp.moveaxis(parts, 1, 0)

    def turn(part: RowTokens[jax.Array]) -> jax.Array:
        """A few rows of each share, `[shares, size, ...]`."""
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), part)
        tokens, lengths = assemble_rows(
            flat.prompt, flat.prompt_length, flat.tokens, settings.pad_id
        )
        prepared = model.prepare(variables, sigma_of(flat.tokens, flat.step, settings))
        hidden = model.hidden(variables, tokens, lengths, prepared)
        states = model.generated(hidden, lengths - settings.gen_len, settings.gen_len)
        return states.reshape(shares, size, *states.shape[1:])

    states = jnp.moveaxis(jax.lax.map(turn, jax.tree.map(by_turns, rows)), 0, 1)
    whole = states.reshape(shares, turns * size, *states.shape[3:])[:, :share]
    return jax.lax.stop_gradient(whole.reshape(shares * share, *whole.shape[2:]))
