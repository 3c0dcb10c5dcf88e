"""The one place where positions are put in order. One row each; `G` positions."""

import jax
import jax.numpy as jnp


def lowest(values: jax.Array, where: jax.Array, count: jax.Array | int) -> jax.Array:
    """bool `[G]`: the `count` positions in `where` of the lowest value, or all if there are fewer.

    Of equal values the earlier position goes first.

    Args:
      values: `[G]`, finite. where: bool `[G]`. count: int32 `[]`.
    """
    order = jnp.argsort(jnp.where(where, values, jnp.inf), stable=True)
    place = jnp.argsort(order, stable=True)
    return where & (place < count)
