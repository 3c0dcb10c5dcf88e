"""Keys and values that are kept from one pass to the next, where most of a row stays as it is.

With blocks, what stands before the present one changes no more: its keys and values can be kept
from the block's first pass, and the further ones computed from the block on (the prefix cache of
Wu et al. 2025, Fast-dLLM, arXiv 2505.22618). That is not exact: every position sees the block, and
so would have other keys and values with each token that is written there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Kept(NamedTuple):
    """Of every position of a row, as attention reads them: one pair a transformer block.

    keys, values: `[B, L, key-value heads, head_dim]` each.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]


class Window(NamedTuple):
    """Rows of which W positions are computed, from `begin` on.

    kept: of the whole rows; what lies before `begin` is read. begin: int32 `[B]`. Positions at or
    beyond L are padding.
    """

    kept: Kept
    begin: jax.Array

    def positions(self, width: int) -> jax.Array:
        """int32 `[B, W]`."""
        return self.begin[:, None] + jnp.arange(width, dtype=jnp.int32)


def put(whole: jax.Array, part: jax.Array, positions: jax.Array) -> jax.Array:
    """`whole` `[B, L, ...]` with `part` `[B, W, ...]` at int32 `[B, W]`; what lies outside is left
    out.
    """
    rows = jnp.arange(whole.shape[0])[:, None]
    return whole.at[rows, positions].set(part.astype(whole.dtype), mode="drop")


def window_widths(gen_len: int, block_len: int) -> tuple[int, ...]:
    """How many generated positions a pass over a window may compute, ascending; the last is G.

    From the first position of a block to the end of the row, rounded up to one of at most four
    widths, each of which is a network to compile.
    """
    size = block_len or gen_len
    halves = {min(gen_len, -(-gen_len // (size << k)) * size) for k in range(4)}
    return tuple(sorted(halves))
