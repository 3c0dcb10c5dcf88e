"""O_SCOPE: a window."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.policy.operators.interface import Operator, View, window_len


@dataclasses.dataclass(frozen=True)
class Scope(Operator):
    """A window of `scope_len` positions."""

    name: ClassVar[str] = "O_SCOPE"

    scope_len: int = window_len(32)

    def select(self, view: View) -> jax.Array:
        return view.window(self.scope_len)
