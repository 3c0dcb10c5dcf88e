"""O_NUM: numbers."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.policy.operators.interface import Operator, View, most_tokens, step_cost


@dataclasses.dataclass(frozen=True)
class Numbers(Operator):
    """The last positions whose token holds a digit."""

    name: ClassVar[str] = "O_NUM"

    max_tokens: int = most_tokens()
    cost: float = step_cost(1.2)

    def select(self, view: View) -> jax.Array:
        return view.last(view.vocabulary.has_digit[view.written], self.max_tokens)
