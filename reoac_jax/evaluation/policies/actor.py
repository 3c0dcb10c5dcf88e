"""The actor, trained or as training would start."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.config.parameters import parameter
from reoac_jax.evaluation.names import ACTOR
from reoac_jax.evaluation.policies.interface import (
    PolicyType,
    Running,
    Surroundings,
    outcome_of_rollout,
)
from reoac_jax.policy.distributions import AnyPositions, OneOperator
from reoac_jax.policy.heads import AppliesHeads, HeadOutput, HeadParams
from reoac_jax.policy.observation import Observation
from reoac_jax.system.errors import InputError

NEVER = 2.0  # as a value from which on a row ends


@dataclasses.dataclass(frozen=True)
class BiasedHeads:
    """Heads over positions with one number added to each of the actor's logits.

    What is recorded as logits, and the choice, are the biased actor's.
    """

    heads: AppliesHeads
    logit_bias: float

    def apply(
        self, params: HeadParams, observation: Observation[jax.Array], step: jax.Array
    ) -> HeadOutput:
        output = self.heads.apply(params, observation, step)
        return output._replace(logits=output.logits + self.logit_bias)


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
    logit_bias: float = parameter(
        0.0,
        "of one over positions: added to each position's logit; above 0 a pass reveals more than "
        "the actor was trained to, below 0 less",
        low=-50.0,
        high=50.0,
    )
    stop_value: float = parameter(
        NEVER,
        "of one over operators: a row whose value is at least so much by the critic reveals all "
        "that is left and ends; a critic that is a backbone makes its passes for it; 2: no row "
        "does, for no reward is above 1",
        low=-100.0,
        high=NEVER,
    )

    def prepare(self, where: Surroundings) -> Running:
        settings = where.settings
        heads: AppliesHeads = where.parts.heads
        if self.selection != "configured":
            settings = dataclasses.replace(settings, selection_mode=self.selection)
        if self.logit_bias:
            if not settings.positions:
                raise InputError(
                    f"--policy is {str(self)!r}, but the actor chooses operators; expected no "
                    f"logit_bias, or heads.policy={AnyPositions.name}"
                )
            heads = BiasedHeads(heads, self.logit_bias)
        if self.stop_value < NEVER:
            if settings.positions or settings.update_rule != "denoise":
                raise InputError(
                    f"--policy is {str(self)!r}; expected no stop_value, or heads.policy="
                    f"{OneOperator.name} and rollout.update_rule=denoise"
                )
            filled = where.config.heads.critic == "backbone"
            settings = dataclasses.replace(settings, stop_value=self.stop_value, filled=filled)
        program = where.rollout(heads, settings)
        return Running(program, None, outcome_of_rollout, settings.max_steps)


@dataclasses.dataclass(frozen=True)
class UntrainedActor(Actor):
    """The actor as training would start from it."""

    name: ClassVar[str] = "untrained_actor"
    heads: ClassVar[str | None] = "untrained"
