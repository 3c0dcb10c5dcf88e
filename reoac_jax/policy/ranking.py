"""The one place where positions are put in order. One row each; `G` positions."""

import jax
import jax.numpy as jnp


def ascending(values: jax.Array, where: jax.Array) -> jax.Array:
    """int32 `[G]`: the positions in `where` by their value, then the others, each in reading order
    where values are equal.

    Args:
      values: `[G]`, finite. where: bool `[G]`.
    """
    return jnp.argsort(jnp.where(where, values, jnp.inf), stable=True)


def lowest(values: jax.Array, where: jax.Array, count: jax.Array | int) -> jax.Array:
    """bool `[G]`: the `count` positions in `where` of the lowest value, or all if there are fewer.

    Of equal values the earlier position goes first.

    Args:
      values: `[G]`, finite. where: bool `[G]`. count: int32 `[]`.
    """
    place = jnp.argsort(ascending(values, where), stable=True)
    return where & (place < count)
