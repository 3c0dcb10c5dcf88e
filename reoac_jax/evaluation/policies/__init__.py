"""Policies by name: who decides the order of denoising in an evaluation.

`NAME` or `NAME:parameter=value,...` is the actor, random operators, an operator, or a sampler;
`O_FAST,O_SCOPE,...` an operator for each step. All of them run through the same program on the same
rows, and report the same numbers.
"""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from reoac_jax.config.parameters import describe, members, nearest, parse_member
from reoac_jax.evaluation.names import ACTOR, HELP
from reoac_jax.evaluation.policies.actor import UntrainedActor
from reoac_jax.evaluation.policies.interface import Outcome, PolicyType, Surroundings
from reoac_jax.evaluation.policies.operators import (
    BETWEEN,
    OneOperator,
    OperatorSequence,
    RandomOperator,
    sequence_program,
)
from reoac_jax.evaluation.policies.sampler import numbers_of, prepare_sampler
from reoac_jax.learning.parts import Parts
from reoac_jax.policy.operators import OPERATOR_TYPES
from reoac_jax.rollout import Request, StepWatcher
from reoac_jax.samplers import SAMPLERS, Sampler
from reoac_jax.system.errors import InputError

__all__ = [
    "ACTOR",
    "BETWEEN",
    "POLICIES",
    "POLICY_TYPES",
    "RANDOM",
    "UNTRAINED",
    "Outcome",
    "Policy",
    "Surroundings",
    "heads_of",
    "parse_policy",
    "policies_in_words",
    "sequence_program",
]

POLICY_TYPES: Mapping[str, type[PolicyType]] = members(
    sys.modules[__name__],
    PolicyType,  # type: ignore[type-abstract]
)
UNTRAINED, RANDOM = UntrainedActor.name, RandomOperator.name
POLICIES = (*POLICY_TYPES, *OPERATOR_TYPES, *SAMPLERS)
_OPERATORS = (
    "operators of operators.names, one at every step (or O_A,O_B,...: one for each); what is not "
    "given is as in the configuration"
)


def parse_policy(text: str) -> PolicyType | Sampler:
    """What the text of `--policy` stands for.

    Raises `InputError` for an unknown name or parameter, and for a value that it may not hold.
    """
    name = text.partition(":")[0]
    if BETWEEN in name:
        return OperatorSequence.parse(text)
    if name in OPERATOR_TYPES:
        return OneOperator.parse(text)
    if name in SAMPLERS:
        return parse_member(text, SAMPLERS, "--policy")
    if name not in POLICY_TYPES:
        raise InputError(
            f"--policy is {text!r}{nearest(name, POLICIES)}; expected {', '.join(POLICIES)}, an "
            f"operator for each step with {BETWEEN!r} between them, or {HELP} for their parameters"
        )
    return POLICY_TYPES[name].parse(text)


def heads_of(text: str) -> str | None:
    """Whose actor and critic a policy reads: "trained", "untrained" or None. Raises as above."""
    policy = parse_policy(text)
    return None if isinstance(policy, Sampler) else policy.heads


def policies_in_words() -> str:
    """Every policy with its parameters, as `--policy help` prints them."""
    lines = ["--policy NAME or NAME:parameter=value,...; NAME is one of"]
    for title, types in (
        ("", POLICY_TYPES),
        (_OPERATORS, OPERATOR_TYPES),
        ("samplers", SAMPLERS),
    ):
        lines += ["", f"{title}:"] if title else [""]
        for member in types.values():
            lines += [f"  {line}" for line in describe(member)]
    return "\n".join(lines)


class Policy:
    """A policy by name, ready to be run on any number of requests.

    Attributes:
      max_steps: steps that a row takes at most.
    """

    def __init__(
        self,
        name: str,
        config: ConfigDict,
        parts: Parts,
        mesh: Mesh,
        on_step: StepWatcher | None = None,
    ):
        """on_step: is called from the denoising loop after each step, if given.

        Raises `InputError` as `parse_policy`, and where the policy does not fit the configuration.
        """
        where = Surroundings(config, parts, mesh, on_step)
        self._policy = parse_policy(name)
        if isinstance(self._policy, Sampler):
            running = prepare_sampler(self._policy, where)
        else:
            running = self._policy.prepare(where)
        self._program, self._decider, self._outcome, self.max_steps = running

    def __str__(self) -> str:
        return str(self._policy)

    def with_numbers(self, name: str) -> Self:
        """The policy of that name, which may differ in numbers of a sampler alone, through the
        program of this one: nothing is compiled again. Raises `ValueError` if it differs in more.
        """
        policy = parse_policy(name)
        if not isinstance(policy, Sampler) or not isinstance(self._policy, Sampler):
            raise ValueError(f"{name} and {self} are not both samplers")
        if policy.with_numbers(self._policy.numbers) != self._policy:
            raise ValueError(f"{name} and {self} differ in more than numbers")
        other = copy.copy(self)
        other._policy, other._decider = policy, numbers_of(policy)
        return other

    @property
    def tokens_computed(self) -> int:
        """Tokens that the backbone has been run on so far, padding and idle slots included."""
        return self._program.tokens_computed

    def __call__(
        self, params: Any, heads: Any, key: jax.Array, requests: Sequence[Request]
    ) -> Iterator[tuple[list[int], Outcome]]:
        """Runs the requests; yields indices in `requests` and their `Outcome`."""
        decider = heads if self._decider is None else self._decider
        for indices, result in self._program(params, decider, key, requests):
            yield indices, self._outcome(result)

    def traced(
        self, params: Any, heads: Any, key: jax.Array, requests: Sequence[Request]
    ) -> Iterator[jax.stages.Traced]:
        """What a call would run, traced and not compiled; all but the requests may be shapes."""
        decider = heads if self._decider is None else self._decider
        return self._program.traced(params, decider, key, requests)
