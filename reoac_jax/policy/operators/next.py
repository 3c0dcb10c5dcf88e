"""O_NEXT: one position after the other."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.policy.operators.interface import Operator, View


@dataclasses.dataclass(frozen=True)
class Next(Operator):
    """The window of one position: at the frontier this is reading order."""

    name: ClassVar[str] = "O_NEXT"

    def select(self, view: View) -> jax.Array:
        return view.window(1)
