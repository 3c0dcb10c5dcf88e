"""The gradient of a large minibatch in the memory of a small one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def accumulated_gradient(
    loss_fn: Callable[[Any, Any, jax.Array], jax.Array],
    params: Any,
    batch: Any,
    key: jax.Array,
    microbatches: int,
) -> tuple[jax.Array, Any]:
    """The sum of a loss over microbatches, and its gradient in the parameters' dtype (float32).

    Args:
      loss_fn: (params, microbatch, key) to float32 `[]`; the losses of the parts must add up to
        that of the whole.
      batch: pytree `[N, ...]`; `microbatches` divides N. key: for `loss_fn`, split among the parts.

    Returns:
      The loss, float32 `[]`, and a pytree like `params`.
    """
    value_and_grad = jax.value_and_grad(loss_fn)
    if microbatches == 1:
        return value_and_grad(params, batch, key)
    # Every so-manyth row is one microbatch: rows in some order, by length or noise, are spread.
    parts = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, microbatches, *x.shape[1:]), 1, 0), batch
    )

    def add(total: tuple, part: tuple) -> tuple:
        return jax.tree.map(jnp.add, total, value_and_grad(params, *part)), None

    zero = (jnp.float32(0.0), jax.tree.map(jnp.zeros_like, params))
    return jax.lax.scan(add, zero, (parts, jax.random.split(key, microbatches)))[0]
