"""An evaluation, from a configuration to its two files: scores and provenance, and answers."""

import dataclasses
import json
import platform
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

import reoac_jax
from reoac_jax.config import config_hash, load_config, to_json
from reoac_jax.devices.compilation import set_up_compilation
from reoac_jax.devices.cpu import keep_freed_memory
from reoac_jax.devices.environment import check_devices, set_up_jax
from reoac_jax.evaluation.policies import heads_of, parse_policy
from reoac_jax.evaluation.scoring import answers, evaluate_policy, scores
from reoac_jax.learning.parts import Parts, Trained, load_parts, load_trained, untrained
from reoac_jax.runs.folder import newest_checkpoints
from reoac_jax.system.files import replacing_file, write_json
from reoac_jax.system.progress import working
from reoac_jax.tasks import Task, make_task
from reoac_jax.tasks.problem_set import ProblemSet


def evaluate(options: Namespace, overrides: Sequence[str], argv: Sequence[str]) -> None:
    """Evaluates a policy, writes `options.output` and the .jsonl beside it, and prints the scores.

    Args:
      options: of `python -m reoac_jax.evaluate`. overrides: of the configuration.
      argv: the whole command line, which the file quotes.

    Raises `InputError`.
    """
    keep_freed_memory()
    set_up_jax()
    output = Path(options.output)
    config = load_config(options.config, overrides)
    heads = heads_of(options.policy)
    checkpoint = options.checkpoint
    if checkpoint is None and heads == "trained":
        checkpoint = newest_checkpoints(config)

    set_up_compilation(config.compilation.cache_dir)
    check_devices()
    with working("loading the backbone"):
        parts = load_parts(config)
        trained = (
            untrained(config, parts) if checkpoint is None else load_trained(checkpoint, parts)
        )
    if heads == "untrained":
        trained = dataclasses.replace(trained, heads=untrained(config, parts).heads)
    task = make_task(config.task, config.grader)
    try:
        with working("reading the problems"):
            problem_set = ProblemSet.load(
                task, options.split, parts.tokenizer, config, options.limit
            )
        what = trained.checkpoint or config.backbone.path
        print(
            f"evaluating {options.policy} of {what} on {len(problem_set)} {options.split} "
            f"problems of {task.name}, "
            f"{problem_set.truncation_in_words}"
        )
        evaluation = evaluate_policy(
            options.policy, config, parts, trained.params, trained.heads, task, problem_set
        )
    finally:
        task.close()

    summary = {"task": task.name, "policy": str(parse_policy(options.policy))} | scores(evaluation)
    summary |= problem_set.truncation | _provenance(config, parts, trained, task)
    summary |= {
        "split": options.split,
        "limit": options.limit,
        "problems_hash": problem_set.hash,
        "command": shlex.join(["python", "-m", "reoac_jax.evaluate", *argv]),
        "config": to_json(config),
    }
    lines = [json.dumps(line) + "\n" for line in answers(evaluation, problem_set)]
    replaced = ", in place of an earlier evaluation" if output.exists() else ""
    # Both or none: an answer must not stand beside another evaluation's scores.
    with (
        replacing_file(output) as scores_file,
        replacing_file(output.with_suffix(".jsonl")) as answers_file,
    ):
        answers_file.write_text("".join(lines), encoding="utf-8")
        write_json(scores_file, summary)
    low, high = summary["interval_95"]
    print(
        f"{summary['correct']} of {summary['samples']} correct: {summary['accuracy']:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%}), {summary['forward_passes']:.2f} forward passes "
        f"and cost {summary['avg_cost']:.2f} a problem"
    )
    print(f"wrote {output} and {output.with_suffix('.jsonl')}{replaced}")


def _provenance(config: ConfigDict, parts: Parts, trained: Trained, task: Task) -> dict[str, Any]:
    """What a repetition needs to know, besides the configuration."""
    device = jax.devices()[0]
    return {
        "device": f"{device.platform}: {device.device_kind}",
        "devices": jax.device_count(),
        "dtype": np.dtype(parts.model.dtype).name,
        "attention": parts.model.attention,
        "batch_size": config.evaluation.batch_size,
        "grader": task.name,
        "grader_version": task.grader_version,
        "checkpoint": None if trained.checkpoint is None else str(trained.checkpoint),
        "iteration": trained.record.get("iteration"),
        "base_hash": parts.base_hash,
        "adapter": config.lora.adapter if trained.checkpoint is None else None,
        "config_hash": config_hash(config),
        "training_config_hash": trained.record.get("config_hash"),
        "seed": config.seed,
        "version": reoac_jax.__version__,
        "jax_version": jax.__version__,
        "python_version": platform.python_version(),
    }
