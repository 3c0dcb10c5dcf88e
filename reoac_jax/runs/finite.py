"""Training that has gone wrong, seen at the first number that is NaN or infinite."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def check_finite(iteration: int, values: Mapping[str, Any], groups: Mapping[str, Any]) -> None:
    """Raises `FloatingPointError` that names what is not finite.

    Args:
      iteration: for the message. values: numbers by name, such as losses.
      groups: pytrees of arrays by name, such as a group's parameters and optimiser state.
    """
    wrong = [f"{name} is {float(x)}" for name, x in values.items() if not math.isfinite(x)]
    finite = jax.device_get(all_finite(dict(groups))) if groups else {}
    broken = [name for name, good in finite.items() if not good]
    if broken:
        wrong.append(f"the parameters of {' and '.join(broken)} are no longer finite")
    if wrong:
        raise FloatingPointError(f"in iteration {iteration} {', '.join(wrong)}")


@jax.jit
def all_finite(groups: dict[str, Any]) -> dict[str, jax.Array]:
    """bool `[]` of each pytree by name; one without arrays is left out."""

    def finite(tree: Any) -> jax.Array:
        return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()

    return {name: finite(tree) for name, tree in groups.items() if jax.tree.leaves(tree)}
