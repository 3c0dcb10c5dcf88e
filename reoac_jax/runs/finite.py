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
    # All are asked before the first answer is awaited.
    finite = {name: [all_finite(x) for x in jax.tree.leaves(tree)] for name, tree in groups.items()}
    broken = [name for name, leaves in jax.device_get(finite).items() if not all(leaves)]
    if broken:
        wrong.append(f"the parameters of {' and '.join(broken)} are no longer finite")
    if wrong:
        raise FloatingPointError(f"in iteration {iteration} {', '.join(wrong)}")


@jax.jit
def all_finite(x: jax.Array) -> jax.Array:
    """bool `[]`. An array at a time: one program for each shape, and a pytree has few of them."""
    return jnp.isfinite(x).all()
