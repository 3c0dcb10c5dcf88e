"""A policy on a problem set, graded strictly, and what is reported of it (DESIGN.md, sec. 11)."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.devices import sharding
from reoac_jax.devices.streams import RunStream
from reoac_jax.evaluation.intervals import wilson_interval
from reoac_jax.evaluation.policies import Outcome, Policy
from reoac_jax.learning.grading import Grading
from reoac_jax.learning.parts import Parts
from reoac_jax.policy.heads import HeadParams
from reoac_jax.rollout import Request, in_order
from reoac_jax.system.progress import ProgressLine, working
from reoac_jax.tasks import Grade, Task
from reoac_jax.tasks.problem_set import ProblemSet


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One entry for each problem of the set, in its order.

    operators: names of the operators, in order. max_steps: that the policy may take for a problem.
    seconds: of denoising and grading.
    tokens_computed: that the backbone was run on for them, padding and idle slots included.
    padding_share: of the tokens written, those at and behind the first eos.
    """

    outcome: Outcome
    texts: Sequence[str]
    grades: Sequence[Grade]
    operators: Sequence[str]
    max_steps: int
    seconds: float
    tokens_computed: int
    padding_share: float


def evaluate_policy(
    policy: str | Policy,
    config: ConfigDict,
    parts: Parts,
    params: Any,
    heads: HeadParams,
    task: Task,
    problem_set: ProblemSet,
) -> Evaluation:
    """Runs a policy on every problem; its randomness derives from the seed and a problem's place.

    Args:
      policy: a name as in `reoac_jax.evaluation.policies`, or one that was made before, on all
        devices. params: the backbone's, LoRA merged.
      heads: of actor and critic; read by the actor only.

    Raises:
      InputError: as `Policy` does.
    """
    mesh = sharding.make_mesh()
    if isinstance(policy, str):
        policy = Policy(policy, config, parts, mesh)
    computed_before = policy.tokens_computed
    key = jax.random.fold_in(jax.random.key(config.seed), RunStream.EVALUATION)
    requests = [Request.of(problem_set, index, index) for index in range(len(problem_set))]
    params = sharding.place_parameters(mesh, params, config.sharding.fsdp)
    heads = sharding.replicate(mesh, heads)
    began = time.monotonic()
    batches = []
    with Grading(task, problem_set.problems, parts, "strict") as grading:
        with ProgressLine(len(requests), f"evaluating {policy}", unit="problem") as progress:
            for indices, outcome in policy(params, heads, key, requests):
                batches.append((indices, outcome))
                grading.add(indices, outcome.tokens)
                progress.update(len(indices))
        with working("grading"):
            texts, grades = grading.finish()
    outcome = in_order(batches)
    seconds = time.monotonic() - began
    ends = np.asarray(parts.vocabulary.is_eos)[outcome.tokens]
    return Evaluation(
        outcome,
        texts,
        grades,
        config.operators.names,
        policy.max_steps,
        seconds,
        tokens_computed=policy.tokens_computed - computed_before,
        padding_share=float(np.logical_or.accumulate(ends, axis=1).mean()),
    )


def scores(evaluation: Evaluation) -> dict[str, Any]:
    """Accuracy with its 95 % interval, and what it took: means over problems if nothing else is
    said; passes are those that the backbone was asked for by a row."""
    outcome, grades = evaluation.outcome, evaluation.grades
    correct, count = sum(grade.correct for grade in grades), len(grades)
    return {
        "accuracy": correct / count,
        "interval_95": list(wilson_interval(correct, count)),
        "correct": correct,
        "samples": count,
        "avg_cost": float(outcome.cost.mean()),
        "avg_steps": float(outcome.steps.mean()),
        "max_steps": evaluation.max_steps,
        "forward_passes": float(outcome.forward_passes.mean()),
        "forward_passes_median": float(np.median(outcome.forward_passes)),
        "forward_passes_max": int(outcome.forward_passes.max()),
        "tokens_computed": evaluation.tokens_computed,
        "padding_share": evaluation.padding_share,
        "operator_shares": _operator_shares(evaluation),
        "grader_failures": sum(grade.failed for grade in grades),
        "seconds": evaluation.seconds,
        "examples_per_second": count / evaluation.seconds,
    }


def answers(evaluation: Evaluation, problem_set: ProblemSet) -> list[dict[str, Any]]:
    """Every answer as a JSON object, in the order of the problems."""
    outcome = evaluation.outcome
    lines = []
    for index, (problem, text, grade) in enumerate(
        zip(problem_set.problems, evaluation.texts, evaluation.grades, strict=True)
    ):
        line: dict[str, Any] = {
            "id": problem.id,
            "prompt": problem.prompt,
            "reference": problem_set.references[index],
            "text": text,
            "extracted": grade.extracted,
            "expected": grade.expected,
            "correct": grade.correct,
            "failed": grade.failed,
            "cost": float(outcome.cost[index]),
            "steps": int(outcome.steps[index]),
            "forward_passes": int(outcome.forward_passes[index]),
        }
        if outcome.operators is not None:
            acted = outcome.operators[index]
            line["operators"] = [evaluation.operators[operator] for operator in acted[acted >= 0]]
        lines.append(line)
    return lines


def _operator_shares(evaluation: Evaluation) -> dict[str, float] | None:
    """Each operator's share of the steps; None for samplers."""
    acted = evaluation.outcome.operators
    if acted is None:
        return None
    acted = acted[acted >= 0]
    counts = np.bincount(acted, minlength=len(evaluation.operators))
    return {
        name: float(count / max(len(acted), 1))
        for name, count in zip(evaluation.operators, counts, strict=True)
    }
