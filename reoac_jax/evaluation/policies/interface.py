"""What a policy is: a program to run requests with, and what is kept of its results."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from reoac_jax.backbone.kept import window_widths
from reoac_jax.config.parameters import Parametric, parse_member
from reoac_jax.learning.parts import Parts
from reoac_jax.policy.heads import AppliesHeads
from reoac_jax.rollout import (
    BatchedProgram,
    Rollout,
    RolloutProgram,
    RolloutSettings,
    StepWatcher,
)
from reoac_jax.rollout.options import NO_CACHE
from reoac_jax.system.errors import InputError


class Outcome(NamedTuple):
    """What a policy made of `N` problems.

    tokens: int32 `[N, G]`. cost: float32 `[N]`, operator cost; a step of a sampler costs what one
    of the cheapest operator does. steps: int32 `[N]`.
    forward_passes: int32 `[N]`, that the backbone, and a critic that is one, was asked for by the
    row.
    operators: int32 `[N, T]`, -1 where none acted; None where none does.
    """

    tokens: np.ndarray
    cost: np.ndarray
    steps: np.ndarray
    forward_passes: np.ndarray
    operators: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What a policy is made for.

    on_step: is called from the denoising loop, if given. batch_size: rows denoised together on a
    device; None: `evaluation.batch_size`.
    """

    config: ConfigDict
    parts: Parts
    mesh: Mesh
    on_step: StepWatcher | None = None
    batch_size: int | None = None

    @property
    def rows(self) -> int:
        return self.batch_size or int(self.config.evaluation.batch_size)

    @property
    def settings(self) -> RolloutSettings:
        return self.parts.rollout_settings(self.config, evaluation=True)

    def of_operators(self, selection_mode: str) -> RolloutSettings:
        """Of a policy that picks operators, whatever the configuration's actor chooses.

        No critic that is a backbone makes a pass for it.
        """
        return dataclasses.replace(
            self.settings, positions=False, filled=False, selection_mode=selection_mode
        )

    def in_blocks(self, settings: RolloutSettings, block_len: int) -> RolloutSettings:
        """The settings of a sampler's program, with what `rollout.cache` says of its blocks.

        Raises `InputError` where the backbone, or how it lies on the devices, does not allow it.
        """
        if self.config.rollout.cache == NO_CACHE:
            return settings
        if not self.parts.model.keeps_keys:
            raise InputError(
                f"rollout.cache is {self.config.rollout.cache}, but "
                f"{type(self.parts.model).__name__} keeps no keys and values; expected {NO_CACHE}"
            )
        if settings.weights_in_parts:
            raise InputError(
                f"rollout.cache is {self.config.rollout.cache} and sharding.fsdp True; expected "
                f"{NO_CACHE}, or whole weights on every device"
            )
        windows = window_widths(settings.gen_len, block_len)
        return dataclasses.replace(settings, windows=windows)

    def rollout(self, heads: AppliesHeads, settings: RolloutSettings) -> RolloutProgram:
        """The rollout in which these heads choose. Raises `InputError` with a cache."""
        if self.config.rollout.cache != NO_CACHE:
            raise InputError(
                f"rollout.cache is {self.config.rollout.cache}, which is for samplers; expected "
                f"{NO_CACHE} where operators decide"
            )
        return RolloutProgram(
            self.parts.model, heads, self.parts.vocabulary, settings, self.mesh,
            self.rows, self.on_step,
        )  # fmt: skip


class Running(NamedTuple):
    """program: of the requests. decider: its parameters; None: those of the actor and the critic
    it is given. outcome: from the program's results. max_steps: T."""

    program: BatchedProgram
    decider: Any
    outcome: Callable[[Any], Outcome]
    max_steps: int


@dataclasses.dataclass(frozen=True)
class PolicyType(Parametric, abc.ABC):
    """A policy by name. A further one is a file in this folder.

    Attributes (of the class):
      heads: whose actor and critic it reads: "trained", "untrained", or None.
    """

    heads: ClassVar[str | None] = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `NAME:parameter=value,...` stands for. Raises `InputError`."""
        return parse_member(text, {cls.name: cls}, "--policy")

    @abc.abstractmethod
    def prepare(self, where: Surroundings) -> Running:
        """Makes its program. Raises `InputError` where it does not fit the configuration."""


def outcome_of_rollout(rollout: Rollout[np.ndarray]) -> Outcome:
    """Of the results of the operator policy, or of that over positions."""
    steps = rollout.steps
    acted = None if steps.operator is None else np.where(steps.active, steps.operator, -1)
    return Outcome(
        tokens=rollout.tokens,
        cost=steps.cost.sum(axis=1),
        steps=steps.active.sum(axis=1),
        forward_passes=steps.forward_passes.sum(axis=1),
        operators=acted,
    )
