"""O_OP: operator signs."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.policy.operators.interface import Operator, View, most_tokens, step_cost


@dataclasses.dataclass(frozen=True)
class OperatorSigns(Operator):
    """The last positions whose token holds an operator sign."""

    name: ClassVar[str] = "O_OP"

    max_tokens: int = most_tokens()
    cost: float = step_cost(1.1)

    def select(self, view: View) -> jax.Array:
        return view.last(view.vocabulary.is_operator[view.written], self.max_tokens)
