"""O_SCOPE: a window in which little is left to chance."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.policy.operators.interface import Operator, View, reveals_above, window_len


@dataclasses.dataclass(frozen=True)
class Scope(Operator):
    """A window of `scope_len` positions."""

    name: ClassVar[str] = "O_SCOPE"

    scope_len: int = window_len(32)
    threshold: float = reveals_above(0.95)

    def select(self, view: View) -> jax.Array:
        return view.window(self.scope_len)
