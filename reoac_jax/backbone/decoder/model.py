"""The decoder in Flax: one module for every family (sizes.py says how they differ).

    x += attn_out(attention(rotate(norm(q)), rotate(norm(k)), v))      q, k, v of norm(x)
    x += mlp_down(silu(mlp_gate(h)) * mlp_up(h))                       h = norm(x)

Every position sees every real position of its row: there is no causal mask, no noise level and no
dropout but LoRA's. Matrix products take operands in `dtype` and accumulate in float32; norms,
softmax and the residual stream are float32.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.backbone.attention import (
    Implementation,
    attention,
    rotary_at,
    rotary_table,
    rotate,
)
from reoac_jax.backbone.decoder.config import DecoderConfig
from reoac_jax.backbone.interface import Prepared
from reoac_jax.backbone.kept import Kept, Window, put
from reoac_jax.backbone.layers import INIT, Linear
from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.backbone.products import matmul
from reoac_jax.devices.sharding import saved


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
    """A row of the matrix for each token, rounded to `dtype` as the head's matrix is; float32."""

    vocab_size: int
    features: int
    dtype: jnp.dtype

    def setup(self):
        self.embedding = self.param(
            "embedding", INIT, (self.vocab_size, self.features), jnp.float32
        )

    def __call__(self, tokens: jax.Array) -> jax.Array:
        # Rows first: a 16-bit matrix of 150 000 rows is not widened for the few that are read.
        return jnp.take(self.embedding, tokens, axis=0).astype(self.dtype).astype(jnp.float32)


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
        query, key, value = self._read(x, deterministic, None)
        return self._write(x, query, key, value, lengths, deterministic)

    def keeping(self, x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The block's output, and the keys and values in it."""
        query, key, value = self._read(x, True, None)
        return self._write(x, query, key, value, lengths, True), key, value

    def window(
        self,
        x: jax.Array,
        lengths: jax.Array,
        positions: jax.Array,
        keys: jax.Array,
        values: jax.Array,
    ) -> jax.Array:
        """The block's output at `positions`, int32 `[B, W]`; elsewhere kept keys and values."""
        query, key, value = self._read(x, True, positions)
        key, value = put(keys, key, positions), put(values, value, positions)
        return self._write(x, query, key, value, lengths, True)

    def _read(
        self, x: jax.Array, deterministic: bool, positions: jax.Array | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values; positions: of x, None: 0 .. L."""
        h = self.attn_norm(x)
        batch, length, _ = h.shape
        split = (batch, length, -1, self.config.head_dim)
        query = self.q_proj(h, deterministic).reshape(split)
        key = self.k_proj(h, deterministic).reshape(split)
        value = self.v_proj(h, deterministic).reshape(split).astype(self.dtype)
        if self.config.head_norms:
            query, key = self.q_norm(query), self.k_norm(key)
        # The families differ in how a 16-bit model rotates, and were trained so.
        precision = jnp.float32 if self.config.rope_float32 else self.dtype
        if positions is None:
            table = rotary_table(length, self.config.head_dim, self.config.rope_theta)
        else:
            table = rotary_at(positions, self.config.head_dim, self.config.rope_theta)
        cosine, sine = (part.astype(precision) for part in table)
        query, key = (rotate(x.astype(self.dtype), cosine, sine) for x in (query, key))
        return query, key, value

    def _write(
        self,
        x: jax.Array,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        lengths: jax.Array,
        deterministic: bool,
    ) -> jax.Array:
        """x with what attention and the MLP add to it."""
        mixed = attention(query, key, value, lengths, self.attention)
        x = x + self.attn_out(mixed.reshape(*x.shape[:2], -1), deterministic)
        h = self.mlp_norm(x)
        gate = nn.silu(self.mlp_gate(h, deterministic))
        return x + self.mlp_down(gate * self.mlp_up(h, deterministic), deterministic)


class Decoder(DenoiserModule):
    """The denoiser: tokens and row lengths to logits over the whole vocabulary.

    It sees no noise level, so that `Prepared` is empty, and has no dropout but LoRA's.
    """

    config: DecoderConfig
    dtype: Any = jnp.float32
    attention: Implementation = "xla"
    dropout: float = 0.0
    lora_dropout: float = 0.0
    remat: bool = False

    compute_layers = (
        "q_proj", "k_proj", "v_proj", "attn_out", "mlp_gate", "mlp_up", "mlp_down", "lm_head",
    )  # fmt: skip
    lora_targets = ("q_proj", "k_proj", "v_proj", "attn_out")
    keeps_keys = True

    def setup(self):
        config = self.config
        self.embed = Embed(config.vocab_size, config.hidden_dim, self.dtype)
        # Argument 3 is `deterministic`.
        block = nn.remat(Block, static_argnums=(3,)) if self.remat else Block
        self.blocks = [
            block(config, self.dtype, self.attention, self.lora_dropout)
            for _ in range(config.n_blocks)
        ]
        self.final_norm = RMSNorm(config.norm_eps)
        if not config.tied:
            self.lm_head = Linear(
                config.vocab_size,
                use_bias=False,
                dtype=self.dtype,
                lora_dropout=self.lora_dropout,
            )

    def trunk(
        self,
        rows: jax.Array,
        lengths: jax.Array,
        prepared: Prepared,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        x = saved(self.embed(rows))
        for block in self.blocks:
            x = saved(block(x, lengths, deterministic))
        return x

    def trunk_keeping(
        self, rows: jax.Array, lengths: jax.Array, prepared: Prepared
    ) -> tuple[jax.Array, Kept]:
        x = self.embed(rows)
        keys, values = [], []
        for block in self.blocks:
            x, key, value = block.keeping(x, lengths)
            keys.append(key)
            values.append(value)
        return x, Kept(tuple(keys), tuple(values))

    def trunk_window(
        self, rows: jax.Array, lengths: jax.Array, prepared: Prepared, window: Window
    ) -> jax.Array:
        x = self.embed(rows)
        positions, kept = window.positions(rows.shape[1]), window.kept
        for block, keys, values in zip(self.blocks, kept.keys, kept.values, strict=True):
            x = block.window(x, lengths, positions, keys, values)
        return x

    def head(
        self, hidden: jax.Array, prepared: Prepared, *, deterministic: bool = True
    ) -> jax.Array:
        normed = self.final_norm(hidden)
        if self.config.tied:
            return matmul(normed, self.embed.embedding.T, self.dtype)
        return self.lm_head(normed, deterministic)

    @nn.nowrap
    def is_multiplied(self, names: Sequence[str]) -> bool:
        return names[-1] == "embedding" or super().is_multiplied(names)
