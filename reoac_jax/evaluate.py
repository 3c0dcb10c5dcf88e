"""Evaluates a trained policy on the test problems, strictly graded.

    python -m reoac_jax.evaluate --config configs/gsm8k.py \\
        --checkpoint runs/gsm8k/<timestamp>/checkpoints --output runs/eval_gsm8k.json [--limit N]

Without --checkpoint the newest run of the configuration's `exp_name` is taken. Beside the JSON file
a .jsonl file of the same name holds every answer.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import reoac_jax
from reoac_jax import sharding
from reoac_jax.config import config_hash, load_config, parse_command_line
from reoac_jax.episodes import ProblemSet, generated_text, rollout_summary
from reoac_jax.errors import InputError, run_command
from reoac_jax.files import write_json, write_text
from reoac_jax.metrics import ProgressLine, wilson_interval
from reoac_jax.operators import OPERATORS
from reoac_jax.rollout import Rollout, RolloutProgram, in_order
from reoac_jax.run_folder import newest_checkpoints
from reoac_jax.tasks import Grade, Task, make_task, task_options
from reoac_jax.trained import Parts, Trained, load_parts, load_trained

_ROLLOUT_STREAM = 3  # folded into the seed's key; training's streams are others


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m reoac_jax.evaluate", description=__doc__)
    parser.add_argument("--config", required=True, help="a configuration file")
    parser.add_argument("--checkpoint", help="checkpoints/ of a run, or one iteration in it")
    parser.add_argument("--output", required=True, help="the JSON file to write")
    parser.add_argument("--limit", type=int, help="only the first N test problems")
    options, overrides = parse_command_line(parser, argv)
    output = Path(options.output)
    if output.suffix != ".json" or output.is_dir():
        raise InputError(f"--output is {output}; expected a file name that ends in .json")
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit is {options.limit}; expected 1 or more")
    config = load_config(options.config, overrides, task_options)
    checkpoint = options.checkpoint or newest_checkpoints(config)

    parts = load_parts(config)
    trained = load_trained(checkpoint, parts)
    task = make_task(config.task, config.grader)
    try:
        problem_set = ProblemSet.load(task, "test", parts.tokenizer, config, options.limit)
        print(f"evaluating {trained.checkpoint} on {len(problem_set)} problems of {task.name}")
        began = time.monotonic()
        rollout = roll_out(config, parts, trained, problem_set)
        special = parts.vocabulary.is_special
        texts = [generated_text(tokens, parts.tokenizer, special) for tokens in rollout.tokens]
        grades = task.grade(texts, problem_set.problems, "strict")
        seconds = time.monotonic() - began
    finally:
        task.close()

    summary = summarise(config, parts, trained, task, problem_set, rollout, grades, seconds)
    answers = [
        _answer(problem_set, rollout, texts, grades, index) for index in range(len(problem_set))
    ]
    answers_file = output.with_suffix(".jsonl")
    write_text(answers_file, "".join(json.dumps(line) + "\n" for line in answers))
    write_json(output, summary)
    low, high = summary["interval_95"]
    print(
        f"{summary['correct']} of {summary['samples']} correct: {summary['accuracy']:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%}), {summary['forward_passes']:.2f} forward passes "
        f"and cost {summary['avg_cost']:.2f} a problem"
    )
    print(f"wrote {output} and {answers_file}")
    return 0


def roll_out(
    config: ConfigDict, parts: Parts, trained: Trained, problem_set: ProblemSet
) -> Rollout:
    """Every problem's rollout, in order; its randomness derives from the seed and its place."""
    mesh = sharding.make_mesh()
    settings = parts.rollout_settings(config, evaluation=True)
    program = RolloutProgram(
        parts.model, parts.heads, parts.vocabulary, settings, mesh, config.evaluation.batch_size
    )
    key = jax.random.fold_in(jax.random.key(config.seed), _ROLLOUT_STREAM)
    questions = [problem_set.question(index, index) for index in range(len(problem_set))]
    params, heads = sharding.replicate(mesh, (trained.params, trained.heads))
    batches = []
    with ProgressLine(len(questions), "evaluating", unit="problem") as progress:
        for places, rollout in program(params, heads, key, questions):
            batches.append((places, rollout))
            progress.update(len(places))
    return in_order(batches)


def summarise(
    config: ConfigDict,
    parts: Parts,
    trained: Trained,
    task: Task,
    problem_set: ProblemSet,
    rollout: Rollout,
    grades: Sequence[Grade],
    seconds: float,
) -> dict[str, Any]:
    """The evaluation's JSON object (DESIGN.md, section 11)."""
    correct, count = sum(grade.correct for grade in grades), len(grades)
    means = rollout_summary(rollout)
    device = jax.devices()[0]
    return {
        "task": task.name,
        "accuracy": correct / count,
        "interval_95": list(wilson_interval(correct, count)),
        "correct": correct,
        "samples": count,
        "avg_cost": means["cost"],
        "avg_steps": means["steps"],
        "forward_passes": means["forward_passes"],
        "operator_shares": means["operator_shares"],
        "policy": "actor",
        "grader_failures": sum(grade.failed for grade in grades),
        **problem_set.truncation,
        "seconds": seconds,
        "examples_per_second": count / seconds,
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "dtype": np.dtype(parts.model.dtype).name,
        "attention": parts.model.attention,
        "grader": task.name,
        "grader_version": task.grader_version,
        "checkpoint": str(trained.checkpoint),
        "iteration": trained.record["iteration"],
        "base_hash": parts.base_hash,
        "config_hash": config_hash(config),
        "training_config_hash": trained.record["config_hash"],
        "seed": config.seed,
        "version": reoac_jax.__version__,
        "jax_version": jax.__version__,
    }


def _answer(
    problem_set: ProblemSet,
    rollout: Rollout,
    texts: Sequence[str],
    grades: Sequence[Grade],
    index: int,
) -> dict[str, Any]:
    problem, grade = problem_set.problems[index], grades[index]
    steps = jax.tree.map(lambda x: x[index], rollout.steps)
    return {
        "id": problem.id,
        "prompt": problem.prompt,
        "reference": problem_set.references[index],
        "text": texts[index],
        "extracted": grade.extracted,
        "expected": grade.expected,
        "correct": grade.correct,
        "failed": grade.failed,
        "cost": float(steps.cost.sum()),
        "steps": int(steps.active.sum()),
        "forward_passes": int(steps.forward_passes.sum()),
        "operators": [OPERATORS[operator] for operator in steps.operator[steps.active]],
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
