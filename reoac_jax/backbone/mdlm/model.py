"""MDLM's denoising transformer in Flax (DESIGN.md, section 3; Sahoo et al. 2024, arXiv 2406.07524).

The forward pass is three steps, so that a rollout can do the first one once and the last one for
generated positions only: `modulation(sigma)` -> `trunk(tokens, lengths, ...)` -> `logits(hidden)`.
Parameters are float32; matrix products take operands in `dtype` and accumulate in float32, and
norms, softmax and the residual stream are float32.
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.backbone.attention import Implementation, attention, rotary_table, rotate
from reoac_jax.backbone.matmul import matmul
from reoac_jax.backbone.mdlm.config import BackboneConfig

_FREQUENCY_DIM = 256  # width of the sinusoidal embedding of sigma
_COMPUTE_LAYERS = ("attn_qkv", "attn_out", "mlp_in", "mlp_out", "linear")
_INIT = nn.initializers.normal(stddev=0.02)


class BackboneOutput(NamedTuple):
    """logits: float32 `[B, L, V]`, raw. hidden: float32 `[B, L, D]`, the last block's output."""

    logits: jax.Array
    hidden: jax.Array


class Modulation(NamedTuple):
    """All that the network derives from sigma; the batch axis is 1 without time conditioning.

    blocks: per block float32 `[B or 1, 6 D]`: shift, scale, gate of attention, then of the MLP.
    final: float32 `[B or 1, 2 D]`: shift, scale.
    """

    blocks: tuple[jax.Array, ...]
    final: jax.Array


class Linear(nn.Module):
    """`x @ kernel + bias`, plus `dropout(x) @ a @ b` where the collection "lora" has this layer."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    lora_dropout: float = 0.0
    kernel_init: nn.initializers.Initializer = _INIT

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        y = matmul(x, kernel, self.dtype)
        if self.has_variable("lora", "a"):
            dropped = nn.Dropout(self.lora_dropout)(x, deterministic=deterministic)
            low_rank = matmul(dropped, self.get_variable("lora", "a"), self.dtype)
            y = y + matmul(low_rank, self.get_variable("lora", "b"), self.dtype)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return y


class Norm(nn.Module):
    """Layer norm in float32 with a weight and no bias, epsilon 1e-5."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        x = x.astype(jnp.float32)
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred).mean(axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-5) * scale


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
        self.norm1 = Norm()
        self.attn_qkv = linear(3 * width, use_bias=False)
        self.attn_out = linear(width, use_bias=False)
        self.norm2 = Norm()
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
        self.norm = Norm()
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


class Backbone(nn.Module):
    """The denoiser: tokens and row lengths to logits over the whole vocabulary.

    dtype: operand dtype of the matrix products. attention: "xla" or "cudnn".
    dropout, lora_dropout: rates that act only with `deterministic=False`.
    remat: the backward pass computes each block anew from its input, instead of keeping what it
      computed in between.
    """

    config: BackboneConfig
    dtype: jnp.dtype = jnp.float32
    attention: Implementation = "xla"
    dropout: float = 0.0
    lora_dropout: float = 0.0
    remat: bool = False

    if TYPE_CHECKING:  # Flax declares a union with the state that `mutable` would return too

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    def setup(self):
        config = self.config
        self.vocab_embed = nn.Embed(
            config.vocab_size, config.hidden_dim, embedding_init=_INIT, dtype=jnp.float32
        )
        self.sigma_map = SigmaMap(config.cond_dim)
        # Argument 4 is `deterministic`.
        block = nn.remat(Block, static_argnums=(4,)) if self.remat else Block
        self.blocks = [
            block(config, self.dtype, self.attention, self.dropout, self.lora_dropout)
            for _ in range(config.n_blocks)
        ]
        self.final = FinalLayer(config, self.dtype, self.lora_dropout)

    def __call__(
        self,
        tokens: jax.Array,
        lengths: jax.Array,
        sigma: jax.Array | None = None,
        *,
        deterministic: bool = True,
    ) -> BackboneOutput:
        """Raw logits and hidden states at every position.

        Args:
          tokens: int32 `[B, L]`, rows right-padded.
          lengths: int32 `[B]`, real tokens of each row, at least 1.
          sigma: float32 `[B]` noise level; ignored, and may be None, without time conditioning.
          deterministic: False applies dropout (needs the "dropout" key).

        Returns:
          `BackboneOutput`; what stands at positions beyond `lengths` holds no meaning. SUBS is the
          caller's work.
        """
        modulation = self.modulation(sigma, deterministic=deterministic)
        hidden = self.trunk(tokens, lengths, modulation, deterministic=deterministic)
        return BackboneOutput(self.logits(hidden, modulation, deterministic=deterministic), hidden)

    def modulation(
        self, sigma: jax.Array | None = None, *, deterministic: bool = True
    ) -> Modulation:
        """What sigma (float32 `[B]`) means to every layer; one row without time conditioning."""
        if not self.config.time_conditioning:
            sigma = jnp.zeros((1,), jnp.float32)
        elif sigma is None:
            raise ValueError("this backbone is time-conditioned: sigma, float32 [B], is needed")
        conditioning = self.sigma_map(sigma)
        blocks = tuple(block.modulation(conditioning, deterministic) for block in self.blocks)
        return Modulation(blocks, self.final.modulation(conditioning, deterministic))

    def trunk(
        self,
        tokens: jax.Array,
        lengths: jax.Array,
        modulation: Modulation,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        """The last block's output, float32 `[B, L, D]`."""
        x = self.vocab_embed(tokens)
        for block, block_modulation in zip(self.blocks, modulation.blocks, strict=True):
            x = block(x, lengths, block_modulation, deterministic)
        return x

    def logits(
        self, hidden: jax.Array, modulation: Modulation, *, deterministic: bool = True
    ) -> jax.Array:
        """Raw logits, float32 `[B, N, V]`, of any positions' hidden states `[B, N, D]`."""
        return self.final(hidden, modulation.final, deterministic)


def cast_for_compute(params: Any, dtype: jnp.dtype) -> Any:
    """The parameters with the matrices that are multiplied in `dtype` stored so.

    For programs that run the network many times: the cast is then made once. Conditioning,
    embedding, norms and biases stay float32, as in the forward pass.
    """

    def cast(path: tuple, leaf: jax.Array) -> jax.Array:
        names = [part.key for part in path]
        multiplied = names[-1] == "kernel" and names[-2] in _COMPUTE_LAYERS
        return leaf.astype(dtype) if multiplied else leaf

    return jax.tree_util.tree_map_with_path(cast, params)
