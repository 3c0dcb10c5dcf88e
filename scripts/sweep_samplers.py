"""Measures a sampler over values of one of its parameters: accuracy against forward passes.

    python scripts/sweep_samplers.py --config configs/tiny.py --output runs/sweep.jsonl \\
        --policy threshold:block_len=0 --sweep threshold=0.5,0.7,0.9,0.95 \\
        --policy confidence --sweep steps=4,7,16 --split dev --problems 500

Each --policy is followed by its --sweep; without one it is measured as it is. Choose on --split dev
and report on test. Every point is one line of OUTPUT, written as soon as it is known, with the hash
of the configuration and of the backbone; a second call goes on where the first one stopped. The
points of a parameter that is a number run through one compiled program.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import FrozenConfigDict

from reoac_jax.config import config_hash, load_config, parse_command_line
from reoac_jax.config.parameters import parse_member
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import Policy
from reoac_jax.evaluation.scoring import evaluate_policy, scores
from reoac_jax.learning.parts import Parts, load_parts, untrained
from reoac_jax.samplers import SAMPLERS, Sampler
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.tasks import Task, make_task
from reoac_jax.tasks.problem_set import ProblemSet

_LEFT_OUT = ("operator_shares",)  # a sampler has none


class _PolicyWithSweep(argparse.Action):
    """Collects pairs of a policy and the sweep behind it."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        pairs = list(namespace.policies or [])
        if option == "--policy":
            pairs.append((values, None))
        elif not pairs or pairs[-1][1] is not None:
            raise InputError(f"--sweep {values} follows no --policy; expected one behind each")
        else:
            pairs[-1] = (pairs[-1][0], values)
        namespace.policies = pairs


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="a .jsonl file")
    collected = {"action": _PolicyWithSweep, "dest": "policies"}
    parser.add_argument("--policy", required=True, metavar="SAMPLER[:...]", **collected)
    parser.add_argument("--sweep", metavar="PARAMETER=VALUE,...", **collected)
    parser.add_argument("--split", choices=("dev", "test"), default="dev")
    parser.add_argument("--problems", type=int, help="only the first N problems")
    options, overrides = parse_command_line(parser, argv)
    sweeps = [list(swept(policy, sweep)) for policy, sweep in options.policies]
    config = load_config(options.config, overrides)
    parts = load_parts(config)
    task = make_task(config.task, config.grader)
    try:
        for samplers in sweeps:
            measure(samplers, config, parts, task, options)
    finally:
        task.close()
    return 0


def swept(policy: str, sweep: str | None) -> Iterator[Sampler]:
    """The sampler with each of the values. Raises `InputError`."""
    parse_member(policy, SAMPLERS, "--policy")
    if sweep is None:
        yield parse_member(policy, SAMPLERS, "--policy")
        return
    name, equals, values = sweep.partition("=")
    if not equals or not values:
        raise InputError(f"--sweep is {sweep!r}; expected PARAMETER=VALUE,VALUE,...")
    between = "," if ":" in policy else ":"
    for value in values.split(","):
        yield parse_member(f"{policy}{between}{name}={value}", SAMPLERS, "--sweep")


def measure(
    samplers: Sequence[Sampler], config: FrozenConfigDict, parts: Parts, task: Task, options: Any
) -> None:
    """Measures and stores the points that are not stored yet."""
    problems = ProblemSet.load(task, options.split, parts.tokenizer, config, options.problems)
    start = untrained(config, parts)
    mesh = sharding.make_mesh()
    policy: Policy | None = None
    for sampler in samplers:
        key = {
            "policy": str(sampler),
            "sampler": sampler.name,
            "parameters": dataclasses.asdict(sampler),
            "split": options.split,
            "problems_hash": problems.hash,
            "config_hash": config_hash(config),
            "base_hash": parts.base_hash,
            "seed": config.seed,
        }
        if any(all(row.get(k) == v for k, v in key.items()) for row in stored(options.output)):
            continue
        try:
            policy = policy and policy.with_numbers(str(sampler))
        except ValueError:  # structure differs
            policy = None
        policy = policy or Policy(str(sampler), config, parts, mesh)
        evaluation = evaluate_policy(
            policy, config, parts, start.params, start.heads, task, problems
        )
        row = key | {k: v for k, v in scores(evaluation).items() if k not in _LEFT_OUT}
        row["correct_by_problem"] = [int(grade.correct) for grade in evaluation.grades]
        row["passes_by_problem"] = evaluation.outcome.forward_passes.tolist()
        options.output.parent.mkdir(parents=True, exist_ok=True)
        with options.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{row['policy']}: {row['accuracy']:.1%} in {row['forward_passes']:.2f} mean passes "
            f"(median {row['forward_passes_median']:g}, at most {row['forward_passes_max']})",
            flush=True,
        )


def stored(path: Path) -> list[dict[str, Any]]:
    """The points so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


if __name__ == "__main__":
    sys.exit(run_command(main))
