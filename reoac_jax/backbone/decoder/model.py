"""The decoder in Flax: one module for every family (families.py says how they differ).

    x += attn_out(attention(rotate(norm(q)), rotate(norm(k)), v))      q, k, v of norm(x)
    x += mlp_down(silu(mlp_gate(h)) * mlp_up(h))                       h = norm(x)

Every position sees every real position of its row: there is no causal mask, no noise level and no
dropout but LoRA's. Matrix products take operands in `dtype` and accumulate in float32; norms,
softmax and the residual stream are float32.
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.backbone.attention import Implementation, attention, rotary_table, rotate
from reoac_jax.backbone.decoder.config import DecoderConfig
from reoac_jax.backbone.products import matmul
from reoac_jax.backbone.mdlm.model import Linear

_INIT = nn.initializers.normal(stddev=0.02)


class DecoderOutput(NamedTuple):
    """logits: float32 `[B, L, V]`, those of position i at i whatever the family.

    hidden: float32 `[B, L, D]`, the last block's output, before the final norm.
    """

    logits: jax.Array
    hidden: jax.Array


class RMSNorm(nn.Module):
    """`x / sqrt(mean(x^2) + epsilon) * scale` in float32 (Zhang & Sennrich 2019, equation 4)."""

    epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        mean_square = jnp.square(x).mean(axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(mean_square + self.epsilon) * scale


class Embed(nn.Module):
    """A row of the matrix for each token, float32 whatever the matrix is stored in."""

    vocab_size: int
    features: int

    def setup(self):
        self.embedding = self.param(
            "embedding", _INIT, (self.vocab_size, self.features), jnp.float32
        )

    def __call__(self, tokens: jax.Array) -> jax.Array:
        # Rows first: a 16-bit matrix of 150 000 rows is not widened for the few that are read.
        return jnp.take(self.embedding, tokens, axis=0).astype(jnp.float32)


class Block(nn.Module):
    """Attention and gated MLP, each added to the residual stream behind a norm of its own."""

    config: DecoderConfig
    dtype: jnp.dtype
    attention: Implementation
    lora_dropout: float

    def setup(self):
        config = self.config
        linear = functools.partial(Linear, dtype=self.dtype, lora_dropout=self.lora_dropout)
        norm = functools.partial(RMSNorm, config.norm_eps)
        self.attn_norm = norm()
        self.q_proj = linear(config.n_heads * config.head_dim, use_bias=config.qkv_bias)
        self.k_proj = linear(config.n_kv_heads * config.head_dim, use_bias=config.qkv_bias)
        self.v_proj = linear(config.n_kv_heads * config.head_dim, use_bias=config.qkv_bias)
        if config.head_norms:
            self.q_norm = norm()
            self.k_norm = norm()
        self.attn_out = linear(config.hidden_dim, use_bias=False)
        self.mlp_norm = norm()
        self.mlp_gate = linear(config.mlp_dim, use_bias=False)
        self.mlp_up = linear(config.mlp_dim, use_bias=False)
        self.mlp_down = linear(config.hidden_dim, use_bias=False)

    def __call__(self, x: jax.Array, lengths: jax.Array, deterministic: bool) -> jax.Array:
        x = x + self._attend(self.attn_norm(x), lengths, deterministic)
        h = self.mlp_norm(x)
        gate = nn.silu(self.mlp_gate(h, deterministic))
        return x + self.mlp_down(gate * self.mlp_up(h, deterministic), deterministic)

    def _attend(self, h: jax.Array, lengths: jax.Array, deterministic: bool) -> jax.Array:
        batch, length, _ = h.shape
        split = (batch, length, -1, self.config.head_dim)
        query = self.q_proj(h, deterministic).reshape(split)
        key = self.k_proj(h, deterministic).reshape(split)
        value = self.v_proj(h, deterministic).reshape(split).astype(self.dtype)
        if self.config.head_norms:
            query, key = self.q_norm(query), self.k_norm(key)
        # The families differ in how a 16-bit model rotates, and were trained so.
        precision = jnp.float32 if self.config.rope_float32 else self.dtype
        table = rotary_table(length, self.config.head_dim, self.config.rope_theta)
        cosine, sine = (part.astype(precision) for part in table)
        query, key = (rotate(x.astype(self.dtype), cosine, sine) for x in (query, key))
        mixed = attention(query, key, value, lengths, self.attention)
        return self.attn_out(mixed.reshape(batch, length, -1), deterministic)


class Decoder(nn.Module):
    """The denoiser: tokens and row lengths to logits over the whole vocabulary.

    dtype: operand dtype of the matrix products. attention: "xla" or "cudnn".
    lora_dropout: rate that acts only with `deterministic=False`.
    remat: the backward pass computes each block anew from its input, instead of keeping what it
      computed in between.
    """

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32
    attention: Implementation = "xla"
    lora_dropout: float = 0.0
    remat: bool = False

    if TYPE_CHECKING:  # Flax declares a union with the state that `mutable` would return too

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    def setup(self):
        config = self.config
        self.embed = Embed(config.vocab_size, config.hidden_dim)
        # Argument 3 is `deterministic`.
        block = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
        self.blocks = [
            block(config, self.dtype, self.attention, self.lora_dropout)
            for _ in range(config.n_blocks)
        ]
        self.final_norm = RMSNorm(config.norm_eps)
        if not config.tied:
            self.head = Linear(
                config.vocab_size,
                use_bias=False,
                dtype=self.dtype,
                lora_dropout=self.lora_dropout,
            )

    def __call__(
        self,
        tokens: jax.Array,
        lengths: jax.Array,
        sigma: jax.Array | None = None,
        *,
        deterministic: bool = True,
    ) -> DecoderOutput:
        """Raw logits and hidden states at every position.

        Args:
          tokens: int32 `[B, L]`, rows right-padded.
          lengths: int32 `[B]`, real tokens of each row, at least 1.
          sigma: not read: these models see no noise level.
          deterministic: False applies LoRA's dropout (needs the "dropout" key).

        Returns:
          `DecoderOutput`; what stands at positions beyond `lengths` holds no meaning.
        """
        del sigma
        hidden = self.trunk(tokens, lengths, deterministic=deterministic)
        positions = jnp.arange(tokens.shape[1])[None, :]
        logits = self.logits(hidden[:, self.source(positions)[0]], deterministic=deterministic)
        return DecoderOutput(logits, hidden)

    def source(self, positions: jax.Array) -> jax.Array:
        """The positions whose hidden states hold the logits of `positions`: the shift, once."""
        return jnp.maximum(positions - self.config.logits_shift, 0)

    def trunk(
        self, tokens: jax.Array, lengths: jax.Array, *, deterministic: bool = True
    ) -> jax.Array:
        """The last block's output, float32 `[B, L, D]`."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, lengths, deterministic)
        return x

    def logits(self, hidden: jax.Array, *, deterministic: bool = True) -> jax.Array:
        """Raw logits, float32 `[B, N, V]`, of hidden states `[B, N, D]`, unshifted."""
        normed = self.final_norm(hidden)
        if self.config.tied:
            return matmul(normed, self.embed.embedding.T, self.dtype)
        return self.head(normed, deterministic)
