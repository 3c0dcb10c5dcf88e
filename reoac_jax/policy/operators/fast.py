"""O_FAST: a wide window of which much is revealed at once, at a higher cost."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.config.parameters import parameter
from reoac_jax.policy.operators.interface import (
    Operator,
    View,
    reveals_above,
    step_cost,
    step_scale,
    window_len,
)


@dataclasses.dataclass(frozen=True)
class Fast(Operator):
    """A window of `scope_len` positions; a step costs `cost` + `extra_cost`."""

    name: ClassVar[str] = "O_FAST"

    scope_len: int = window_len(64)
    step_scale: float = step_scale(1.5)
    threshold: float = reveals_above(0.7)
    cost: float = step_cost(1.5)
    extra_cost: float = parameter(0.5, "added to the cost", low=0.0, high=100.0)

    @property
    def charge(self) -> float:
        return self.cost + self.extra_cost

    def select(self, view: View) -> jax.Array:
        return view.window(self.scope_len)
