"""Policies that are blind: random operators, one operator at every step, or one for each step."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from reoac_jax.config.parameters import nearest, parse_values
from reoac_jax.evaluation.policies.interface import (
    PolicyType,
    Running,
    Surroundings,
    outcome_of_rollout,
)
from reoac_jax.policy.heads import HeadOutput
from reoac_jax.policy.observation import Observation
from reoac_jax.policy.operators import OPERATOR_TYPES, Operator
from reoac_jax.rollout import RolloutProgram, RolloutSettings
from reoac_jax.system.errors import InputError

BETWEEN = ","  # a sequence of operators is named O_FAST,O_SCOPE,...: one for each step


class ConstantHeads:
    """Heads that see nothing: the same logits everywhere, and Q = 0."""

    def __init__(self, logits: Sequence[float]):
        self._logits = tuple(logits)

    def apply(
        self, params: Any, observation: Observation[jax.Array], step: jax.Array
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


@dataclasses.dataclass(frozen=True)
class RandomOperator(PolicyType):
    """An operator drawn at every step, each with the same chance."""

    name: ClassVar[str] = "random_operator"

    def prepare(self, where: Surroundings) -> Running:
        settings = where.of_operators("sample")
        program = where.rollout(ConstantHeads([0.0] * len(settings.operators)), settings)
        return Running(program, None, outcome_of_rollout, settings.max_steps)


@dataclasses.dataclass(frozen=True)
class OneOperator(PolicyType):
    """One operator at every step; `values` replace its parameters in the configuration."""

    operator: type[Operator]
    values: tuple[tuple[str, Any], ...]

    @classmethod
    def parse(cls, text: str) -> "OneOperator":
        """Of `O_FAST` or `O_FAST:scope_len=8`. Raises `InputError`."""
        operator, values = parse_values(text, OPERATOR_TYPES, "--policy")
        return cls(operator, tuple(values.items()))

    @classmethod
    def parameters(cls):  # what its fields hold is checked by the operator
        return {}

    def __str__(self) -> str:
        changed = ",".join(f"{name}={value}" for name, value in self.values)
        return f"{self.operator.name}:{changed}" if changed else self.operator.name

    def prepare(self, where: Surroundings) -> Running:
        (number,) = _places([self.operator.name], where.config, str(self))
        settings = where.of_operators("argmax")
        operators = list(settings.operators)
        operators[number] = dataclasses.replace(operators[number], **dict(self.values))
        settings = dataclasses.replace(settings, operators=tuple(operators))
        heads = ConstantHeads(_wanting(number, settings).tolist())
        program = where.rollout(heads, settings)
        return Running(program, None, outcome_of_rollout, settings.max_steps)


@dataclasses.dataclass(frozen=True)
class OperatorSequence(PolicyType):
    """One operator for each step."""

    operators: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "OperatorSequence":
        """Of `O_FAST,O_SCOPE,...`. Raises `InputError`."""
        names = tuple(name.strip() for name in text.split(BETWEEN))
        for name in names:
            if name not in OPERATOR_TYPES:
                raise InputError(
                    f"--policy is {text!r} with {name!r}{nearest(name, OPERATOR_TYPES)}; expected "
                    f"an operator for each step, each one of {', '.join(OPERATOR_TYPES)}"
                )
        return cls(names)

    @classmethod
    def parameters(cls):
        return {}

    def __str__(self) -> str:
        return BETWEEN.join(self.operators)

    def prepare(self, where: Surroundings) -> Running:
        places = _places(self.operators, where.config, str(self))
        program = sequence_program(where)
        max_steps = where.config.rollout.max_steps
        if len(places) != max_steps:
            raise InputError(
                f"--policy is {str(self)!r}, {len(places)} operators; expected as many as "
                f"rollout.max_steps, {max_steps}"
            )
        return Running(program, jnp.array(places, jnp.int32), outcome_of_rollout, max_steps)


def sequence_program(where: Surroundings) -> RolloutProgram:
    """A rollout program whose parameters are the operators of the steps, int32 `[T]`."""
    settings = dataclasses.replace(
        where.of_operators("argmax"),
        use_hidden=False,
        extra_features=False,
        operator_preview=False,
        notation=None,
        rows=False,
    )
    return where.rollout(SequenceHeads(settings), settings)


def _wanting(operator: jax.Array | int, settings: RolloutSettings) -> jax.Array:
    """Logits float32 `[..., A]` whose largest is an operator's, int32 `[...]`, and whose second
    largest is the fallback's: it acts where the operator may not be chosen."""
    count = len(settings.operators)
    wanted = jax.nn.one_hot(jnp.asarray(operator), count)
    return 2.0 * wanted + jax.nn.one_hot(settings.fallback_operator, count)


def _places(operators: Sequence[str], config: ConfigDict, policy: str) -> list[int]:
    """Where the operators stand in `operators.names`."""
    known = list(config.operators.names)
    for name in operators:
        if name not in known:
            raise InputError(
                f"--policy is {policy!r} with {name}; expected operators of operators.names, "
                f"{', '.join(known)}"
            )
    return [known.index(name) for name in operators]
