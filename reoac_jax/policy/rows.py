"""What a head that sees the row makes of it: attention over the generated positions.

`G` generated positions, `D` the backbone's width, `W` the encoder's.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.policy.observation import PositionRows

_FACTORS = (0x9E3779B1, 0x85EBCA77)  # odd: of two multiplicative hashes


@dataclasses.dataclass(frozen=True)
class RowSizes:
    """gen_len: G. hidden_dim: D. vocab_size: V. The rest is as in the section `heads.rows`."""

    gen_len: int
    hidden_dim: int
    vocab_size: int
    width: int
    layers: int
    attention_heads: int
    token_rows: int

    def example(self, batch: int) -> PositionRows[jax.Array]:
        """Rows of zeros."""
        shape = (batch, self.gen_len)
        return PositionRows(
            token=jnp.zeros(shape, jnp.int32),
            confidence=jnp.zeros(shape),
            entropy=jnp.zeros(shape),
            masked=jnp.zeros(shape, bool),
            hidden=jnp.zeros((*shape, self.hidden_dim)),
        )


class RowEncoder(nn.Module):
    """From `PositionRows` `[B, G, ...]`, standardised, to float32 `[B, G, W]`.

    Each position is the sum of a projection of its hidden state, its token's embedding, its
    confidence, entropy and mask bit, and of where it stands; `layers` blocks of attention and a
    two-layer MLP follow, each on a layer-normed input and added to it (Xiong et al. 2020, arXiv
    2002.04745), and a layer norm in the end.
    """

    sizes: RowSizes

    if TYPE_CHECKING:  # Flax declares a union with the state that `mutable` would return too

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    @nn.compact
    def __call__(self, rows: PositionRows[jax.Array]) -> jax.Array:
        sizes, width = self.sizes, self.sizes.width
        sure = jnp.stack([rows.confidence, rows.entropy, rows.masked.astype(jnp.float32)], axis=-1)
        place = self.param("place", nn.initializers.normal(0.02), (sizes.gen_len, width))
        x = nn.Dense(width, name="hidden")(rows.hidden) + nn.Dense(width, name="sure")(sure)
        x += TokenEmbedding(sizes.vocab_size, width, sizes.token_rows, name="token")(rows.token)
        x += place
        for layer in range(sizes.layers):
            # By the name under which checkpoints hold it.
            attention = Attention(sizes.attention_heads, name=f"_Attention_{layer}")
            x += attention(nn.LayerNorm()(x))
            inner = nn.silu(nn.Dense(2 * width)(nn.LayerNorm()(x)))
            x += nn.Dense(width)(inner)
        return nn.LayerNorm()(x)


class TokenEmbedding(nn.Module):
    """A learned vector of each token, `[...]` to float32 `[..., width]`.

    A small vocabulary has a row of its table for each token. Of one that has more tokens than the
    table has rows, each token's vector is the sum of two rows that two hashes of its id name: two
    tokens share both of them once in as many pairs as the table has rows, squared (Svenstrup et al.
    2017, arXiv 1709.03933, with equal weights).
    """

    vocab_size: int
    width: int
    rows: int

    @nn.compact
    def __call__(self, token: jax.Array) -> jax.Array:
        table = nn.Embed(min(self.vocab_size, self.rows), self.width)
        if self.vocab_size <= self.rows:
            return table(token)
        first, second = hashed_rows(token, self.rows)
        return table(first) + table(second)


def hashed_rows(token: jax.Array, rows: int) -> list[jax.Array]:
    """The two rows of a table of `rows` that stand for a token, int32 `[...]` each."""
    ids = token.astype(jnp.uint32) + 1
    # The upper bits of the product: those that depend on all bits of the id.
    return [(((ids * jnp.uint32(f)) >> 9) % rows).astype(jnp.int32) for f in _FACTORS]


class Attention(nn.Module):
    """Self-attention over `[B, G, W]`; every position sees every other."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, width = x.shape
        split = (batch, length, 3, self.heads, width // self.heads)
        q, k, v = jnp.moveaxis(nn.Dense(3 * width)(x).reshape(split), 2, 0)
        mixed = jax.nn.dot_product_attention(q, k, v)
        return nn.Dense(width)(mixed.reshape(x.shape))
