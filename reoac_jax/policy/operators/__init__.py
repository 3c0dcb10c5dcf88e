"""The operators: which generated positions a step may change, and what that costs.

DESIGN.md, section 7. One file each, found by listing this folder; `A` operators, `G` positions.
"""

import sys
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from reoac_jax.config.parameters import members
from reoac_jax.policy.operators.interface import Operator, View

__all__ = ["OPERATOR_TYPES", "Operator", "View", "make_operators", "select_positions"]

OPERATOR_TYPES: Mapping[str, type[Operator]] = members(
    sys.modules[__name__],
    Operator,  # type: ignore[type-abstract]
)


def make_operators(config: ConfigDict) -> tuple[Operator, ...]:
    """The operators of a validated config, in the order of `operators.names`."""
    return tuple(
        OPERATOR_TYPES[name](**config.operators[name].to_dict()) for name in config.operators.names
    )


def select_positions(view: View, operators: Sequence[Operator]) -> jax.Array:
    """bool `[A, G]`: what each operator selects in one row."""
    return jnp.stack([operator.select(view) for operator in operators])
