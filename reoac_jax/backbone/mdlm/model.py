"""MDLM's denoising transformer in Flax (DESIGN.md, section 3; Sahoo et al. 2024, arXiv 2406.07524).

The forward pass is three steps, so that a rollout can do the first one once and the last one for
generated positions only: `condition(sigma)` -> `trunk(tokens, lengths, ...)` -> `head(hidden)`.
Parameters are float32; matrix products take operands in `dtype` and accumulate in float32, and
norms, softmax and the residual stream are float32.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.backbone.attention import Implementation, attention, rotary_table, rotate
from reoac_jax.backbone.interface import Prepared
from reoac_jax.backbone.layers import INIT, Linear
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.devices.sharding import saved

_FREQUENCY_DIM = 256  # width of the sinusoidal embedding of sigma


def _norm() -> nn.LayerNorm:
    """Layer norm in float32 with a weight and no bias."""
    return nn.LayerNorm(epsilon=1e-5, use_bias=False, dtype=jnp.float32, use_fast_variance=False)


class SigmaMap(nn.Module):
    """Noise level `[B]` to conditioning `[B, cond_dim]`: silu(MLP(sinusoid(sigma)))."""

    cond_dim: int

    def setup(self):
        self.linear_0 = Linear(self.cond_dim)
        self.linear_1 = Linear(self.cond_dim)

    def __call__(self, sigma: jax.Array) -> jax.Array:
        half = _FREQUENCY_DIM // 2
        frequency = jnp.exp(-jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
        angle = sigma.astype(jnp.float32)[:, None] * frequency
        sinusoid = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return nn.silu(self.linear_1(nn.silu(self.linear_0(sinusoid))))


class Block(nn.Module):
    """Attention and MLP, each modulated and gated by the conditioning (DiT's adaLN)."""

    config: BackboneConfig
    dtype: jnp.dtype
    attention: Implementation
    dropout: float
    lora_dropout: float

    def setup(self):
        width = self.config.hidden_dim
        linear = functools.partial(Linear, dtype=self.dtype, lora_dropout=self.lora_dropout)
        self.norm1 = _norm()
        self.attn_qkv = linear(3 * width, use_bias=False)
        self.attn_out = linear(width, use_bias=False)
        self.norm2 = _norm()
        self.mlp_in = linear(4 * width)
        self.mlp_out = linear(width)
        self.adaln = Linear(
            6 * width, lora_dropout=self.lora_dropout, kernel_init=nn.initializers.zeros
        )
        self.drop = nn.Dropout(self.dropout)

    def modulation(self, conditioning: jax.Array, deterministic: bool) -> jax.Array:
        return self.adaln(conditioning, deterministic)

    def __call__(
        self, x: jax.Array, lengths: jax.Array, modulation: jax.Array, deterministic: bool
    ) -> jax.Array:
        chunks = jnp.split(modulation[:, None, :], 6, axis=-1)
        attn_shift, attn_scale, attn_gate, mlp_shift, mlp_scale, mlp_gate = chunks

        h = self.norm1(x) * (1 + attn_scale) + attn_shift
        h = self._attend(h, lengths, deterministic)
        x = x + attn_gate * self.drop(h, deterministic=deterministic)

        h = self.norm2(x) * (1 + mlp_scale) + mlp_shift
        h = nn.gelu(self.mlp_in(h, deterministic), approximate=True)
        h = self.mlp_out(h, deterministic)
        return x + mlp_gate * self.drop(h, deterministic=deterministic)

    def _attend(self, h: jax.Array, lengths: jax.Array, deterministic: bool) -> jax.Array:
        batch, length, width = h.shape
        qkv = self.attn_qkv(h, deterministic).astype(self.dtype)
        heads = (batch, length, self.config.n_heads, self.config.head_dim)
        query, key, value = (part.reshape(heads) for part in jnp.split(qkv, 3, axis=-1))
        cosine, sine = rotary_table(length, self.config.head_dim)
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        mixed = attention(query, key, value, lengths, self.attention)
        return self.attn_out(mixed.reshape(batch, length, width), deterministic)


class FinalLayer(nn.Module):
    """Modulated norm and the output head; its matrix is not tied to the embedding."""

    config: BackboneConfig
    dtype: jnp.dtype
    lora_dropout: float

    def setup(self):
        self.norm = _norm()
        self.linear = Linear(
            self.config.vocab_size,
            dtype=self.dtype,
            lora_dropout=self.lora_dropout,
            kernel_init=nn.initializers.zeros,
        )
        self.adaln = Linear(
            2 * self.config.hidden_dim,
            lora_dropout=self.lora_dropout,
            kernel_init=nn.initializers.zeros,
        )

    def modulation(self, conditioning: jax.Array, deterministic: bool) -> jax.Array:
        return self.adaln(conditioning, deterministic)

    def __call__(self, hidden: jax.Array, modulation: jax.Array, deterministic: bool) -> jax.Array:
        shift, scale = jnp.split(modulation[:, None, :], 2, axis=-1)
        return self.linear(self.norm(hidden) * (1 + scale) + shift, deterministic)


class Backbone(DenoiserModule):
    """The denoiser: tokens and row lengths to logits over the whole vocabulary.

    Its `Prepared` is adaLN's modulation, of one row without time conditioning. trunk: per block
    float32 `[B or 1, 6 D]`: shift, scale, gate of attention, then of the MLP. head: float32
    `[B or 1, 2 D]`: shift, scale.
    """

    config: BackboneConfig
    dtype: Any = jnp.float32
    attention: Implementation = "xla"
    dropout: float = 0.0
    lora_dropout: float = 0.0
    remat: bool = False

    # Conditioning stays float32, as in the forward pass.
    compute_layers = ("attn_qkv", "attn_out", "mlp_in", "mlp_out", "linear")
    lora_targets = ("attn_qkv", "attn_out")

    def setup(self):
        config = self.config
        self.vocab_embed = nn.Embed(
            config.vocab_size, config.hidden_dim, embedding_init=INIT, dtype=jnp.float32
        )
        self.sigma_map = SigmaMap(config.cond_dim)
        # Argument 4 is `deterministic`.
        block = nn.remat(Block, static_argnums=(4,)) if self.remat else Block
        self.blocks = [
            block(config, self.dtype, self.attention, self.dropout, self.lora_dropout)
            for _ in range(config.n_blocks)
        ]
        self.final = FinalLayer(config, self.dtype, self.lora_dropout)

    def condition(self, sigma: jax.Array | None = None, *, deterministic: bool = True) -> Prepared:
        if not self.config.time_conditioning:
            sigma = jnp.zeros((1,), jnp.float32)
        elif sigma is None:
            raise ValueError("this backbone is time-conditioned: sigma, float32 [B], is needed")
        conditioning = self.sigma_map(sigma)
        blocks = tuple(block.modulation(conditioning, deterministic) for block in self.blocks)
        return Prepared(blocks, self.final.modulation(conditioning, deterministic))

    def trunk(
        self,
        rows: jax.Array,
        lengths: jax.Array,
        prepared: Prepared,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        x = saved(self.vocab_embed(rows))
        for block, modulation in zip(self.blocks, prepared.trunk, strict=True):
            x = saved(block(x, lengths, modulation, deterministic))
        return x

    def head(
        self, hidden: jax.Array, prepared: Prepared, *, deterministic: bool = True
    ) -> jax.Array:
        return self.final(hidden, prepared.head, deterministic)
