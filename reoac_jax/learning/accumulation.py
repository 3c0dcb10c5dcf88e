"""The gradient of a large minibatch in the memory of a small one."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def accumulated_gradient(
    loss_fn: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]],
    params: Any,
    batch: Any,
    key: jax.Array,
    microbatches: int,
) -> tuple[Any, Any]:
    """The sums of a loss's metrics over microbatches, and its gradient in the parameters' dtype.

    Args:
      loss_fn: (params, microbatch, key) to the loss, float32 `[]`, and metrics, a pytree of them;
        those of the parts must add up to those of the whole.
      batch: pytree `[N, ...]`; `microbatches` divides N. key: for `loss_fn`, split among the parts.

    Returns:
      The metrics, and a pytree like `params` (float32).
    """
    gradient_of = jax.grad(loss_fn, has_aux=True)
    if microbatches == 1:
        gradient, metrics = gradient_of(params, batch, key)
        return metrics, gradient
    # Every so-manyth row is one microbatch: rows in some order, by length or noise, are spread.
    parts = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, microbatches, *x.shape[1:]), 1, 0), batch
    )
    first = jax.tree.map(lambda x: x[0], parts)

    def add(total: tuple, part: tuple) -> tuple:
        return jax.tree.map(jnp.add, total, gradient_of(params, *part)), None

    shapes = jax.eval_shape(gradient_of, params, first, key)
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    keys = jax.random.split(key, microbatches)
    (gradient, metrics), _ = jax.lax.scan(add, zero, (parts, keys))
    return metrics, gradient
