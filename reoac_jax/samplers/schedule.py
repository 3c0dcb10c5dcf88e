"""Left to right, so many positions a step as one says."""

import dataclasses
import re
from typing import ClassVar

import jax.numpy as jnp

from reoac_jax.config.parameters import parameter
from reoac_jax.rollout import RolloutSettings
from reoac_jax.samplers.interface import Move, OrderingSampler, View
from reoac_jax.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class Schedule(OrderingSampler):
    """Step s reveals the first counts[s] masked positions, the step after the last count the rest.

    A learned policy that has found nothing but a good schedule ties with it.
    """

    name: ClassVar[str] = "schedule"
    source: ClassVar[str] = "ours: what a trained actor had learned, written by hand"

    counts: str = parameter("1-1-1-1-1-2", "positions a step, with - between; then the rest")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"[1-9][0-9]{0,3}(-[1-9][0-9]{0,3}){0,1022}", self.counts):
            raise InputError(
                f"{self.name}: counts is {self.counts!r}; expected numbers from 1 to 9999 with - "
                "between them"
            )

    def row_steps(self, settings: RolloutSettings) -> int:
        return self.counts.count("-") + 2

    def step(self, view: View) -> Move:
        counts = jnp.array([int(count) for count in self.counts.split("-")], jnp.int32)
        size = view.masked.shape[0]
        # Behind the last count: everything.
        quota = jnp.where(view.step < len(counts), counts[view.step % len(counts)], size)
        return Move(view.best(-jnp.arange(size, dtype=jnp.float32), quota))
