"""In reading order, with an even quota."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from reoac_jax.samplers.even_quota import EvenQuotaSampler
from reoac_jax.samplers.interface import View


@dataclasses.dataclass(frozen=True)
class LeftToRight(EvenQuotaSampler):
    """The first positions, in reading order."""

    name: ClassVar[str] = "left_to_right"
    source: ClassVar[str] = "the order of an autoregressive model"

    def score(self, view: View) -> jax.Array:
        return -jnp.arange(view.masked.shape[0], dtype=jnp.float32)
