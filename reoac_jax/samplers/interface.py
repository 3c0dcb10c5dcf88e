"""What a sampler is: which masked positions a step reveals, and for how many steps a row takes.

A sampler is one file in this folder: a frozen dataclass with its `name`, its parameters and `step`.
It says itself what it needs of a prediction and what it remembers of a row; nothing else knows it.
Everything here is of one row, and `vmap`ped; `G` generated positions.
"""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.backbone.draw import DrawSettings, TokenPrediction
from reoac_jax.config.parameters import Parametric, parameter
from reoac_jax.policy.ranking import lowest
from reoac_jax.rollout import RolloutSettings
from reoac_jax.system.errors import InputError


class View(NamedTuple):
    """What a rule sees of one row at one step. The block is the whole row where there are none.

    masked: bool `[G]`, M: the masked positions of the present block.
    revealed: bool `[G]`, the positions of the block that the rule itself has written.
    proposal: the model's proposal, `[G]` each. ends: bool `[G]`, that token ends the text.
    step: int32 `[]`, of the block, from 0. steps: int32 `[]`, that the block has.
    masks: int32 `[]`, masked positions of the block when it began.
    key: PRNG key of the row and step.
    memory: what the rule's last step in this row remembered.
    """

    masked: jax.Array
    revealed: jax.Array
    proposal: TokenPrediction
    ends: jax.Array
    step: jax.Array
    steps: jax.Array
    masks: jax.Array
    key: jax.Array
    memory: Any = ()

    @property
    def steps_left(self) -> jax.Array:
        """int32 `[]`, this one included."""
        return self.steps - self.step

    def best(self, score: jax.Array, count: jax.Array | int) -> jax.Array:
        """bool `[G]`: the `count` masked positions of highest score, the leftmost of equal ones."""
        return lowest(-score, self.masked, count)


class Move(NamedTuple):
    """What a step does to one row.

    reveal: bool `[G]`, masked positions that take the proposed token.
    remask: bool `[G]`, revealed positions that are masked again; None: never any.
    memory: for the next step. done: bool `[]`, the block needs no further step; None: as soon as
    nothing in it is masked.
    """

    reveal: jax.Array
    remask: jax.Array | None = None
    memory: Any = ()
    done: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Sampler(Parametric, abc.ABC):
    """A rule. A given token counts as revealed and is never masked again.

    Blocks are worked on from left to right, counted from the first generated position; the last
    may be shorter. Later blocks stay masked and are seen by the backbone; a block is finished
    before the next one begins, and one without a mask is passed over.

    Attributes (of the class):
      source: where the rule comes from.
      shares_steps: the row's steps are shared out among the blocks, the first ones getting those
        that are left over, and a block's last step reveals what is left of it. Otherwise a block
        has as many steps as it takes.
      keeps_prediction: a step that changed nothing leaves the next one its prediction: right where
        which positions are revealed does not depend on what is proposed for them.
    """

    source: ClassVar[str]
    shares_steps: ClassVar[bool] = False
    keeps_prediction: ClassVar[bool] = False

    block_len: int = parameter(0, "positions of a block; 0: the whole row", low=0, high=65536)

    @abc.abstractmethod
    def step(self, view: View) -> Move:
        """One step. Pure, for `vmap` and `jit`; parameters that are numbers may be traced."""

    def begin(self, gen_len: int) -> Any:
        """What is remembered of a row before its first step."""
        return ()

    def draw(self, configured: DrawSettings) -> DrawSettings:
        """How tokens are drawn, and what is measured of their distribution."""
        return configured

    @abc.abstractmethod
    def row_steps(self, settings: RolloutSettings) -> int:
        """T: steps that a row takes at most. The last one reveals what is left."""

    def check(self, settings: RolloutSettings) -> None:
        """Raises `InputError` where the rule cannot be used with these settings."""
        steps, blocks = self.row_steps(settings), self.blocks(settings.gen_len)
        if self.shares_steps and steps < blocks:
            raise InputError(
                f"{self}: {steps} steps for {blocks} blocks of {self.block_len} in "
                f"{settings.gen_len} tokens; expected at least one step a block (parameter "
                "block_len, or rollout.max_steps)"
            )

    def blocks(self, gen_len: int) -> int:
        """How many blocks a row has."""
        return -(-gen_len // self.block_len) if self.block_len else 1

    def block_steps(self, block: jax.Array, settings: RolloutSettings) -> jax.Array:
        """int32: the steps that a block has."""
        steps = self.row_steps(settings)
        if not self.shares_steps:
            return jnp.full_like(block, steps)
        share, rest = divmod(steps, self.blocks(settings.gen_len))
        return share + (block < rest).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class OrderingSampler(Sampler):
    """A rule about positions, whose tokens can be drawn in any way: its own choice, if it has one,
    or the configuration's.

    Raises:
      InputError: a temperature or top-p is set, but `tokens` is not "sample".
    """

    tokens: str = parameter(
        "configured",
        "how a token is drawn; configured: as evaluation.sample_strategy and rollout.temperature",
        choices=("configured", "argmax", "sample"),
    )
    temperature: float = parameter(1.0, "sample: of the draw", low=1e-4, high=100.0)
    top_p: float = parameter(
        1.0, "sample: the draw is from the fewest tokens that have this share", low=0.0, high=1.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "top_p"):
            if self.tokens != "sample" and getattr(self, name) != 1.0:
                raise InputError(
                    f"{self.name}: {name} is {getattr(self, name)} but tokens is {self.tokens}; "
                    f"expected tokens=sample, or no {name}"
                )

    def draw(self, configured: DrawSettings) -> DrawSettings:
        if self.tokens == "configured":
            return configured
        if self.tokens == "argmax":
            return dataclasses.replace(configured, strategy="argmax")
        return dataclasses.replace(
            configured, strategy="sample", temperature=self.temperature, top_p=self.top_p
        )


@dataclasses.dataclass(frozen=True)
class ScheduledSampler(Sampler):
    """A rule that is told how many steps it has."""

    shares_steps: ClassVar[bool] = True

    steps: int = parameter(0, "steps of a row; 0: rollout.max_steps", low=0, high=4096)

    def row_steps(self, settings: RolloutSettings) -> int:
        return self.steps or settings.max_steps


@dataclasses.dataclass(frozen=True)
class AdaptiveSampler(OrderingSampler):
    """A rule that decides by itself how much a step reveals, one position at least."""

    limit: bool = parameter(False, "at most rollout.max_steps steps; else the row's length")

    def row_steps(self, settings: RolloutSettings) -> int:
        return settings.max_steps if self.limit else settings.gen_len
