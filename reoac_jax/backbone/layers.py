"""Layers that every architecture is built from."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.backbone.products import matmul

INIT = nn.initializers.normal(stddev=0.02)


class Linear(nn.Module):
    """`x @ kernel + bias`, plus `dropout(x) @ a @ b` where the collection "lora" has this layer."""

    features: int
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    lora_dropout: float = 0.0
    kernel_init: nn.initializers.Initializer = INIT

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        x = x.astype(jnp.float32)  # so that the gradients of several products add up in float32
        y = matmul(x, kernel, self.dtype)
        if self.has_variable("lora", "a"):
            dropped = nn.Dropout(self.lora_dropout)(x, deterministic=deterministic)
            low_rank = matmul(dropped, self.get_variable("lora", "a"), self.dtype)
            y = y + matmul(low_rank, self.get_variable("lora", "b"), self.dtype)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return y
