"""Who decides the order of denoising in an evaluation: the actor, an operator, or a sampler.

All of them run through the same program on the same rows, and report the same numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from reoac_jax.backbone.prediction import DrawSettings
from reoac_jax.learning.parts import Parts
from reoac_jax.policy.heads import AppliesHeads, HeadOutput, HeadParams
from reoac_jax.policy.observation import Observation
from reoac_jax.policy.operators import OPERATOR_TYPES
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout import (
    BatchedProgram,
    BatchResult,
    DenoiseFn,
    Prompts,
    Request,
    Rollout,
    RolloutProgram,
    RolloutSettings,
    StepWatcher,
)
from reoac_jax.samplers import RULES, Sampled, sample
from reoac_jax.system.errors import InputError

ACTOR, UNTRAINED, RANDOM = "actor", "untrained_actor", "random_operator"
BETWEEN = ","  # a sequence of operators is named O_FAST,O_SCOPE,...: one for each step
POLICIES = (ACTOR, UNTRAINED, RANDOM, *OPERATOR_TYPES, *RULES)


class Outcome(NamedTuple):
    """What a policy made of `N` problems.

    tokens: int32 `[N, G]`. cost: float32 `[N]`, operator cost; a step of a sampler costs what one
    of the cheapest operator does. steps, forward_passes: int32 `[N]`.
    operators: int32 `[N, T]`, -1 where none acted; None for samplers.
    """

    tokens: np.ndarray
    cost: np.ndarray
    steps: np.ndarray
    forward_passes: np.ndarray
    operators: np.ndarray | None


class ConstantHeads:
    """Heads that see nothing: the same logits everywhere, and Q = 0."""

    def __init__(self, logits: Sequence[float]):
        self._logits = tuple(logits)

    def apply(
        self, params: HeadParams, observation: Observation[jax.Array], step: jax.Array
    ) -> HeadOutput:
        logits = jnp.tile(jnp.array(self._logits, jnp.float32), (step.shape[0], 1))
        return HeadOutput(logits, jnp.zeros_like(logits))


class SequenceHeads:
    """Heads that see the step alone; their parameters are one operator for each, int32 `[T]`."""

    def __init__(self, settings: RolloutSettings):
        self._settings = settings

    def apply(
        self, params: jax.Array, observation: Observation[jax.Array], step: jax.Array
    ) -> HeadOutput:
        logits = _wanting(params[step], self._settings)
        return HeadOutput(logits, jnp.zeros_like(logits))


def sequence_program(
    config: ConfigDict,
    parts: Parts,
    mesh: Mesh,
    batch_size: int,
    on_step: StepWatcher | None = None,
) -> RolloutProgram:
    """A rollout program whose `heads` are the operators of the steps, int32 `[T]`."""
    settings = dataclasses.replace(
        parts.rollout_settings(config, evaluation=True),
        selection_mode="argmax",
        use_hidden=False,
        extra_features=False,
        operator_preview=False,
    )
    heads = SequenceHeads(settings)
    return RolloutProgram(parts.model, heads, parts.vocabulary, settings, mesh, batch_size, on_step)


class Policy:
    """A policy by name, ready to be run on any number of requests.

    Raises `InputError` for an unknown name, a sequence of operators that is not of
    `rollout.max_steps`, or `ancestral_cached` on a backbone that sees the time.
    """

    def __init__(
        self,
        name: str,
        config: ConfigDict,
        parts: Parts,
        mesh: Mesh,
        on_step: StepWatcher | None = None,
    ):
        """on_step: is called from the denoising loop after each step, if given."""
        size = config.evaluation.batch_size
        self._program: BatchedProgram
        self._outcome: Callable[[Any], Outcome]
        self._heads: Any = None  # what stands in place of the actor and the critic
        if BETWEEN in name:
            self._heads = _sequence(name, config)
            self._outcome = _of_rollout
            self._program = sequence_program(config, parts, mesh, size, on_step)
            return
        if name not in POLICIES:
            raise InputError(
                f"--policy is {name!r}; expected one of {', '.join(POLICIES)}, or an operator for "
                f"each step with {BETWEEN!r} between them"
            )
        settings = parts.rollout_settings(config, evaluation=True)
        if name in RULES:
            self._program = _sampler(name, config, parts, settings, mesh, size, on_step)
            self._outcome = functools.partial(_of_sampler, min(settings.costs))
            return
        self._outcome = _of_rollout
        heads: AppliesHeads = parts.heads
        if name == RANDOM:
            heads = ConstantHeads([0.0] * len(settings.operators))
            settings = dataclasses.replace(settings, selection_mode="sample")
        elif name in OPERATOR_TYPES:
            (number,) = _indices(name, config)
            heads = ConstantHeads(_wanting(number, settings).tolist())
            settings = dataclasses.replace(settings, selection_mode="argmax")
        self._program = RolloutProgram(
            parts.model, heads, parts.vocabulary, settings, mesh, size, on_step
        )

    @property
    def tokens_computed(self) -> int:
        """Tokens that the backbone has been run on so far, padding and idle slots included."""
        return self._program.tokens_computed

    def __call__(
        self, params: Any, heads: Any, key: jax.Array, requests: Sequence[Request]
    ) -> Iterator[tuple[list[int], Outcome]]:
        """Runs the requests; yields indices in `requests` and their `Outcome`."""
        heads = heads if self._heads is None else self._heads
        for indices, result in self._program(params, heads, key, requests):
            yield indices, self._outcome(result)


def _wanting(operator: jax.Array | int, settings: RolloutSettings) -> jax.Array:
    """Logits float32 `[..., A]` whose largest is an operator's, int32 `[...]`, and whose second
    largest is the fallback's: it acts where the operator may not be chosen."""
    count = len(settings.operators)
    wanted = jax.nn.one_hot(jnp.asarray(operator), count)
    return 2.0 * wanted + jax.nn.one_hot(settings.fallback_operator, count)


def _sequence(name: str, config: ConfigDict) -> jax.Array:
    operators, max_steps = _indices(name, config), config.rollout.max_steps
    if len(operators) != max_steps:
        raise InputError(
            f"--policy is {name!r}; expected as many operators as rollout.max_steps, {max_steps}"
        )
    return jnp.array(operators, jnp.int32)


def _indices(name: str, config: ConfigDict) -> list[int]:
    """The places in `operators.names` of one operator, or of several with `BETWEEN` between."""
    known = config.operators.names
    operators = name.split(BETWEEN)
    if not set(operators) <= set(known):
        raise InputError(
            f"--policy is {name!r}; expected operators of operators.names, {', '.join(known)}"
        )
    return [known.index(operator) for operator in operators]


def _of_rollout(rollout: Rollout[np.ndarray]) -> Outcome:
    steps = rollout.steps
    return Outcome(
        tokens=rollout.tokens,
        cost=steps.cost.sum(axis=1),
        steps=steps.active.sum(axis=1),
        forward_passes=steps.forward_passes.sum(axis=1),
        operators=np.where(steps.active, steps.operator, -1),
    )


def _of_sampler(step_cost: float, sampled: Sampled[np.ndarray]) -> Outcome:
    cost = sampled.steps.astype(np.float32) * np.float32(step_cost)
    return Outcome(sampled.tokens, cost, sampled.steps, sampled.forward_passes, operators=None)


def _sampler(
    name: str,
    config: ConfigDict,
    parts: Parts,
    settings: RolloutSettings,
    mesh: Mesh,
    batch_size: int,
    on_step: StepWatcher | None,
) -> BatchedProgram:
    if name == "ancestral_cached" and settings.time_conditioned:
        raise InputError(
            "--policy ancestral_cached needs a backbone without time conditioning; this one sees "
            "the time, so that a step that changed nothing still needs its forward pass"
        )
    draw = settings.draw
    if name.startswith("ancestral"):
        draw = DrawSettings("sample", 1.0)  # it is a sampler of the model's own distribution
    settings = dataclasses.replace(
        settings, draw=dataclasses.replace(draw, margin=name == "margin")
    )
    block_len = config.evaluation.block_len

    def run_sampler(
        denoise: DenoiseFn,
        heads: HeadParams,
        prompts: Prompts,
        vocabulary: Vocabulary,
        slots: int,
        count: jax.Array,
    ) -> BatchResult:
        return BatchResult(
            *sample(denoise, prompts, settings, name, block_len, slots, count, on_step)
        )

    return BatchedProgram(
        run_sampler, parts.model, parts.vocabulary, settings, mesh, batch_size,
        queued=on_step is None,
    )  # fmt: skip
