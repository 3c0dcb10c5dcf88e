"""O_BRANCH: a look-ahead, which costs the passes that it makes."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.config.parameters import parameter
from reoac_jax.policy.operators.interface import Operator, View, step_cost, window_len


@dataclasses.dataclass(frozen=True)
class Branch(Operator):
    """Tries the operators of highest Q and goes on from the best next state.

    Where nothing branches, and in the last step, a window of `scope_len` positions. A step costs
    `cost` + `branch_depth`.
    """

    name: ClassVar[str] = "O_BRANCH"
    branches: ClassVar[bool] = True

    scope_len: int = window_len(32)
    cost: float = step_cost(2.0)
    branch_depth: float = parameter(1.0, "added to the cost", low=0.0, high=100.0)

    @property
    def charge(self) -> float:
        return self.cost + self.branch_depth

    def select(self, view: View) -> jax.Array:
        return view.window(self.scope_len)
