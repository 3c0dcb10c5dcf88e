"""The backbone's matrix product: operands in the compute dtype, float32 results, both ways."""

import functools

import jax
import jax.numpy as jnp

_multiply = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)


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
    of_x = _multiply(gradient, _transposed(kernel.astype(dtype))).reshape(x.shape)
    return of_x.astype(like.dtype), _multiply(rows.T, gradient).astype(kernel.dtype)


def _transposed(kernel: jax.Array) -> jax.Array:
    """`kernel.T`; for bfloat16 on a CPU laid out anew.

    XLA folds a transposition into the product that follows. Its CPU backend then multiplies
    bfloat16 at the speed of float32, half of what it reaches with rows as they lie. A loop of one
    turn keeps the two apart, as an optimisation barrier, which that backend removes, does not.
    """
    if kernel.dtype != jnp.bfloat16 or jax.default_backend() != "cpu":
        return kernel.T
    return jax.lax.fori_loop(0, 1, lambda _, __: kernel.T, jnp.zeros_like(kernel.T))


matmul.defvjp(_forward, _backward)
