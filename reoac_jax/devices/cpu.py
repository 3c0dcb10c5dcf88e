"""What is tuned for a few CPU cores: their caches, their memory, the products of XLA's CPU backend.

`backbone.products` chooses it, once, where JAX computes on the CPU; other devices run plain JAX.
"""

import ctypes
import functools
import os

import jax
import jax.numpy as jnp

# Logits that exist at a time, in elements: 32 MB of float32.
LOGITS_AT_A_TIME = 2**23

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Keeps freed memory in the process, under glibc.

    XLA allocates its buffers anew for every program that runs. glibc hands large blocks back to the
    kernel at once, and each page is cleared again at its next use: a quarter of a small model's
    training step. With these settings a block stays in the heap and is used again.

    Call it before the first JAX computation. Returns whether the C library has the settings.

    Threads that allocate many small things wait for one another in the one arena: two of the
    tokenizer's take three times as long as one alone. It is told to use one, unless the environment
    says otherwise.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # not glibc: nothing to set
    settings = {
        _MMAP_MAX: 0,  # no block is mapped on its own, and so none is unmapped when it is freed
        _TRIM_THRESHOLD: -1,  # never
        _TOP_PAD: 2**28,
        _ARENA_MAX: 1,  # only the main arena can hold blocks of any size
    }
    if any(mallopt(name, value) != 1 for name, value in settings.items()):
        return False
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return True


def transposed(kernel: jax.Array) -> jax.Array:
    """`kernel.T`; a bfloat16 one laid out anew.

    XLA folds a transposition into the product that follows. Its CPU backend then multiplies
    bfloat16 at the speed of float32, half of what it reaches with rows as they lie. A loop of one
    turn keeps the two apart, as an optimisation barrier, which that backend removes, does not.
    """
    if kernel.dtype != jnp.bfloat16:
        return kernel.T
    return jax.lax.fori_loop(0, 1, lambda _, __: kernel.T, jnp.zeros_like(kernel.T))


def attention(query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array) -> jax.Array:
    """Softmax attention over real keys, in half to three quarters of the time on a CPU that
    `jax.nn.dot_product_attention` takes.

    The heads stand before the positions, and the division by the softmax's sum comes last. Products
    are in the operands' dtype, the softmax in float32.

    Args:
      query: `[B, L, heads, head_dim]`, of these or some of these positions. key, value: `[B, L,
        key-value heads, head_dim]`, of which each serves a run of neighbouring query heads.
        lengths: int32 `[B]`.

    Returns:
      `[B, L, heads, head_dim]` in the query's dtype.
    """
    batch, length, heads, width = query.shape
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    # Query heads that share a key head are so many more queries of that head.
    query = query.reshape(batch, key.shape[1], -1, width)
    multiply = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    scores = multiply("bhqd,bhkd->bhqk", query, key) / query.shape[-1] ** 0.5
    real = jnp.arange(key.shape[2]) < lengths[:, None, None, None]
    scores = jnp.where(real, scores, -jnp.inf)
    # A constant shift: it changes nothing but the range, and so has no gradient.
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    mixed = multiply("bhqk,bhkd->bhqd", weights.astype(value.dtype), value)
    mixed = (mixed / weights.sum(axis=-1, keepdims=True)).reshape(batch, heads, length, width)
    return mixed.swapaxes(1, 2).astype(query.dtype)
