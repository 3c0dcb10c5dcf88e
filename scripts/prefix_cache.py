"""Measures `rollout.cache`: the same policies with none and with prefix, on the same problems.

    python scripts/prefix_cache.py --config configs/tiny.py --config.backbone.path=FOLDER \\
        --output benchmarks/prefix_cache.json --problems 500

FOLDER is a decoder's (`scripts/tiny_decoder.sh` makes one of a million parameters). Of each policy
and cache: accuracy, the problems that only one of the two solves, how many texts are the same, mean
passes, tokens computed (padding and idle slots included) and seconds, of a second round, with
everything compiled; the rounds of both take turns.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.backbone.published import parameter_count
from reoac_jax.backbone.store import read_sizes
from reoac_jax.config import load_config, parse_command_line
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import Policy
from reoac_jax.evaluation.scoring import evaluate_policy, scores
from reoac_jax.learning.parts import load_parts
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_json
from reoac_jax.tasks import make_task
from reoac_jax.tasks.problem_set import ProblemSet

POLICIES = (
    "threshold:threshold=0.9,block_len=4",
    "threshold:threshold=0.9,block_len=10",
    "threshold:threshold=0.9,block_len=0",
    "low_confidence:steps=20,block_len=4",
    "low_confidence:steps=10,block_len=10",
)
CACHES = ("none", "prefix")
_KEPT = (
    "accuracy", "interval_95", "samples", "forward_passes", "tokens_computed", "seconds",
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--policy", nargs="+", default=POLICIES, metavar="SAMPLER[:...]")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    options, overrides = parse_command_line(parser, argv)
    config = load_config(options.config, overrides)
    parts, mesh = load_parts(config), sharding.make_mesh()
    task = make_task(config.task, config.grader)
    report: dict[str, Any] = {
        "parameters": parameter_count(read_sizes(config.backbone.path)),
        "gen_len": config.rollout.gen_len,
        "rows_at_a_time": config.evaluation.batch_size,
        "device": f"{jax.devices()[0].device_kind}, {jax.device_count()} device",
        "policies": [],
    }
    try:
        problems = ProblemSet.load(task, "test", parts.tokenizer, config, options.problems)
        for name in options.policy:
            made = {cache: Policy(name, _with(config, cache), parts, mesh) for cache in CACHES}
            found = {}
            for _ in range(2):  # the first round compiles
                for cache, policy in made.items():
                    found[cache] = evaluate_policy(
                        policy, config, parts, parts.base, None, task, problems
                    )
            right = {
                cache: np.array([grade.correct for grade in one.grades])
                for cache, one in found.items()
            }
            none, prefix = (right[cache] for cache in CACHES)
            record = {"policy": name, "only_none": int((none & ~prefix).sum())}
            record["only_prefix"] = int((prefix & ~none).sum())
            texts = [one.texts for one in found.values()]
            record["same_text"] = sum(a == b for a, b in zip(*texts, strict=True))
            for cache, one in found.items():
                values = scores(one)
                record[cache] = {key: values[key] for key in _KEPT}
            report["policies"].append(record)
            print(record, flush=True)
            write_json(options.output, report)
    finally:
        task.close()
    return 0


def _with(config: Any, cache: str) -> ConfigDict:
    changed = ConfigDict(config)
    changed.rollout.cache = cache
    return changed


if __name__ == "__main__":
    sys.exit(run_command(main))
