"""What `python -m reoac_jax.evaluate` wrote, read for the comparison."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reoac_jax.evaluation.policies import ACTOR, BETWEEN, RANDOM, UNTRAINED
from reoac_jax.policy.operators import OPERATOR_TYPES
from reoac_jax.runs.folder import CONFIG
from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object

_NUMBERS = ("accuracy", "correct", "samples", "avg_cost", "avg_steps", "forward_passes")


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """One evaluation's scores; `label` tells it from the others.

    low, high: the accuracy's 95 % interval. cost, steps, forward_passes: means a problem.
    """

    label: str
    file: Path
    policy: str
    task: str
    accuracy: float
    low: float
    high: float
    correct: int
    samples: int
    cost: float
    steps: float
    forward_passes: float
    max_steps: int | None
    checkpoint: str | None

    @property
    def kind(self) -> str:
        """`actor`, `fixed` (an operator, random choice, the untrained actor) or `sampler`."""
        first = self.policy.split(":")[0].split(BETWEEN)[0]
        if first == ACTOR:
            return "actor"
        return "fixed" if first in (UNTRAINED, RANDOM, *OPERATOR_TYPES) else "sampler"


def read_evaluations(files: Sequence[str], runs: Sequence[Path]) -> list[EvaluationResult]:
    """The named files, and those that lie in the runs' folders, best accuracy first.

    Raises `InputError` for a named file that is no evaluation.
    """
    named = [Path(file) for file in files]
    found = [(file, _read(file)) for file in named]
    known = {file.resolve() for file in named}
    for run in runs:
        for file in sorted(run.glob("*.json")):
            if file.name != CONFIG and file.resolve() not in known:
                try:
                    found.append((file, _read(file)))
                except InputError:
                    continue  # something else that lies there
    names = [_name(record["policy"]) for _, record in found]
    results = [
        _result(file, record, name, names.count(name) > 1)
        for (file, record), name in zip(found, names, strict=True)
    ]
    return sorted(results, key=lambda result: -result.accuracy)


def _read(file: Path) -> Mapping[str, Any]:
    expected = "a .json that python -m reoac_jax.evaluate wrote"
    record = read_json_object(file, expected, what="--eval")
    interval = record.get("interval_95")
    numbers = [record.get(key) for key in _NUMBERS]
    pair = interval if isinstance(interval, list) and len(interval) == 2 else [None]
    if not all(_is_finite(x) for x in (*numbers, *pair)) or not all(
        isinstance(record.get(key), str) for key in ("policy", "task")
    ):
        raise InputError(f"--eval {file} is no evaluation; expected {expected}")
    return record


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _name(policy: str) -> str:
    """The policy's name, short enough for a legend: a sequence names an operator for each step."""
    operators = [] if ":" in policy else policy.split(BETWEEN)
    return policy if len(operators) <= 1 else f"sequence of {len(operators)} operators"


def _result(file: Path, record: Mapping[str, Any], name: str, ambiguous: bool) -> EvaluationResult:
    return EvaluationResult(
        label=f"{name} ({file.parent.name}/{file.stem})" if ambiguous else name,
        file=file,
        policy=record["policy"],
        task=record["task"],
        accuracy=record["accuracy"],
        low=record["interval_95"][0],
        high=record["interval_95"][1],
        correct=record["correct"],
        samples=record["samples"],
        cost=record["avg_cost"],
        steps=record["avg_steps"],
        forward_passes=record["forward_passes"],
        max_steps=record.get("max_steps"),
        checkpoint=record.get("checkpoint"),
    )
