"""O_SHARE: a share of the text, in reading order."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from reoac_jax.config.parameters import parameter
from reoac_jax.policy.operators.interface import Operator, View, reveals_above
from reoac_jax.policy.ranking import lowest


@dataclasses.dataclass(frozen=True)
class Share(Operator):
    """The next positions of the frontier, as many as that share of the text, rounded up.

    The text ends before the first token that ends it, written or proposed; the frontier behind it
    is selected with its last positions. A short answer is so written in about as many steps as a
    long one. By its `threshold` a step reveals all that it selects.
    """

    name: ClassVar[str] = "O_SHARE"

    share: float = parameter(
        0.125, "of the text's positions that a step selects", low=0.0, high=1.0
    )
    threshold: float = reveals_above(0.0)

    def select(self, view: View) -> jax.Array:
        ends = view.vocabulary.is_eos[view.written]
        positions = jnp.arange(ends.shape[0])
        length = jnp.where(ends.any(), jnp.argmax(ends), ends.shape[0])
        # Less a little: a share of a whole number must not become one more by rounding.
        count = jnp.maximum(jnp.ceil(self.share * length - 1e-4), 1).astype(jnp.int32)
        left = (view.frontier & (positions < length)).sum()
        count = jnp.where(left <= count, ends.shape[0], count)
        return lowest(positions, view.frontier, count)
