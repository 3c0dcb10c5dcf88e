"""The products that the networks are made of, for the device at hand.

What differs between devices is chosen here, once: `devices.cpu` on the CPU, plain JAX elsewhere.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.devices import cpu

_multiply = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)


class Products(NamedTuple):
    """attention: of query, key, value `[B, L, heads, head_dim]` and lengths `[B]`, without a fused
    kernel. transposed: of a matrix, for the product that follows. logits_at_a_time: elements of
    `[rows, V]` that may exist at once; a whole row of `[G, V]` always may.
    """

    attention: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    transposed: Callable[[jax.Array], jax.Array]
    logits_at_a_time: int


def _plain_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array
) -> jax.Array:
    return jax.nn.dot_product_attention(
        query, key, value, key_value_seq_lengths=lengths, implementation="xla"
    )


# A bound on memory (1 GiB of float32), not a tuned number.
PLAIN = Products(_plain_attention, jnp.transpose, 2**28)
CPU = Products(cpu.attention, cpu.transposed, cpu.LOGITS_AT_A_TIME)


@functools.cache
def products() -> Products:
    """Those of the device that JAX computes on by default."""
    return CPU if jax.default_backend() == "cpu" else PLAIN


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """`x @ kernel` with operands in `dtype` and float32 accumulation and result.

    So are its gradients, with the cotangent in `dtype`: JAX's own rule would multiply the float32
    cotangent by the kernel in float32, at half the speed or less.

    Args:
      x: `[..., K]`. kernel: `[K, N]`.

    Returns:
      float32 `[..., N]`.
    """
    # As one plain matrix product: on CPU the gradient of the batched form takes twice as long.
    rows = x.astype(dtype).reshape(-1, x.shape[-1])
    return _multiply(rows, kernel.astype(dtype)).reshape(*x.shape[:-1], kernel.shape[-1])


def _forward(
    x: jax.Array, kernel: jax.Array, dtype: jnp.dtype
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    like = jnp.zeros((), x.dtype)  # a dtype alone cannot be handed on
    return matmul(x, kernel, dtype), (x.astype(dtype), kernel, like)


def _backward(
    dtype: jnp.dtype, saved: tuple[jax.Array, jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel, like = saved
    rows = x.reshape(-1, x.shape[-1])
    gradient = cotangent.astype(dtype).reshape(-1, cotangent.shape[-1])
    of_x = _multiply(gradient, products().transposed(kernel.astype(dtype))).reshape(x.shape)
    return of_x.astype(like.dtype), _multiply(rows.T, gradient).astype(kernel.dtype)


matmul.defvjp(_forward, _backward)
