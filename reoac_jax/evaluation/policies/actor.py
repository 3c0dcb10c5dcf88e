"""The actor, trained or as training would start."""

import dataclasses
from typing import ClassVar

from reoac_jax.config.parameters import parameter
from reoac_jax.evaluation.names import ACTOR
from reoac_jax.evaluation.policies.interface import (
    PolicyType,
    Running,
    Surroundings,
    outcome_of_rollout,
)


@dataclasses.dataclass(frozen=True)
class Actor(PolicyType):
    """The trained actor."""

    name: ClassVar[str] = ACTOR
    heads: ClassVar[str | None] = "trained"

    selection: str = parameter(
        "configured",
        "how it picks; configured: evaluation.selection_mode",
        choices=("configured", "argmax", "sample"),
    )

    def prepare(self, where: Surroundings) -> Running:
        settings = where.settings
        if self.selection != "configured":
            settings = dataclasses.replace(settings, selection_mode=self.selection)
        program = where.rollout(where.parts.heads, settings)
        return Running(program, None, outcome_of_rollout, settings.max_steps)


@dataclasses.dataclass(frozen=True)
class UntrainedActor(Actor):
    """The actor as training would start from it."""

    name: ClassVar[str] = "untrained_actor"
    heads: ClassVar[str | None] = "untrained"
