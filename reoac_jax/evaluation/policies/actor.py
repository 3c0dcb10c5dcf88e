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
from reoac_jax.rollout.settings import Remasking, RolloutSettings
from reoac_jax.system.errors import InputError

NEVER = 2.0  # as a value from which on a row ends
ALWAYS = -100.0  # a value that no row is below


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
        "of one over operators: a row that the critic values at least so much as it would end "
        "now reveals all that is left and ends; a critic that is a backbone makes two passes a "
        "step for it; 2: no row does, for no reward is above 1",
        low=ALWAYS,
        high=NEVER,
    )
    remask_value: float = parameter(
        ALWAYS,
        "of one over operators: a complete row whose value is below it by the critic is masked "
        "again where it is weakest, and goes on with drawn tokens (temperature "
        "rollout.temperature); the most valued attempt is the answer; -100: none goes on",
        low=ALWAYS,
        high=NEVER,
    )
    remask_share: float = parameter(
        1.0,
        "of a row's tokens that are masked again, and of its steps that it goes back",
        low=0.01,
        high=1.0,
    )
    passes: int = parameter(
        14, "with remask_value: steps of a row at most, in all attempts", low=1, high=4096
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
        if self.stop_value < NEVER or self.remask_value > ALWAYS:
            settings = self._by_value(settings, where.config.heads.critic == "backbone")
        program = where.rollout(heads, settings)
        return Running(program, None, outcome_of_rollout, settings.row_steps)

    def _by_value(self, settings: RolloutSettings, filled: bool) -> RolloutSettings:
        """With what the critic decides. Raises `InputError` where its value cannot."""
        remasks = self.remask_value > ALWAYS
        what = "remask_value" if remasks else "stop_value"
        if settings.positions or settings.update_rule != "denoise":
            raise InputError(
                f"--policy is {str(self)!r}; expected no {what}, or heads.policy="
                f"{OneOperator.name} and rollout.update_rule=denoise"
            )
        settings = dataclasses.replace(settings, filled=filled)
        if self.stop_value < NEVER:
            settings = dataclasses.replace(settings, stop_value=self.stop_value)
        if not remasks:
            return settings
        if settings.branch or settings.sees_step:
            raise InputError(
                f"--policy is {str(self)!r}; expected no remask_value, or no look-ahead and "
                "rollout.sigma=masked_share"
            )
        remasking = Remasking(self.remask_value, self.remask_share, self.passes)
        return dataclasses.replace(settings, remasking=remasking, draw=settings.draw.for_attempts())


@dataclasses.dataclass(frozen=True)
class UntrainedActor(Actor):
    """The actor as training would start from it."""

    name: ClassVar[str] = "untrained_actor"
    heads: ClassVar[str | None] = "untrained"
