"""An actor over a trained backbone, against what either reaches alone.

    python scripts/together.py --config configs/mixed_trained_positions.py \\
        --alone benchmarks/few_passes_mixed.jsonl benchmarks/frontier_mixed.jsonl \\
        --output benchmarks/together_mixed

Trains the configuration's actor once for each seed and measures it on both splits, as it chooses
and biased to budgets that it was not trained for. At its mean passes on the test problems stand the
best of all that is in the files of `--alone` on the same problems, and the best mixture of two of
them, each problem under one of them by chance: the backbone trained and not, each in its best
orders, and the actors over the one that was not. Both are chosen on the test problems themselves.

OUTPUT.jsonl holds the rows, and a second call goes on where the first one stopped; OUTPUT.json the
comparison. `scripts/by_length.py` sets rules that know how long each answer is against the rows.
"""

import argparse
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import reoac_jax  # first: it says in one line what JAX refuses of the environment

# isort: split
import jax
import numpy as np
from frontier.budgets import at_budget, over_seeds, paired_difference
from frontier.grids import BIASED, CHECKED
from frontier.measure import Study, studying, trained_run
from frontier.rows import Row, point, rows_of, unpack

from reoac_jax.config import parse_command_line, to_json
from reoac_jax.evaluation.policies import ACTOR
from reoac_jax.learning.parts import load_parts, load_trained
from reoac_jax.runs.folder import CHECKPOINTS
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import write_json

POLICIES = {
    ACTOR: ACTOR,
    **{f"{ACTOR}:logit_bias={bias}": BIASED for bias in (-1.0, -0.5, 0.5, 1.0)},
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="path without an ending")
    parser.add_argument(
        "--alone", type=Path, nargs="+", required=True, help="a study's .jsonl, one or more"
    )
    parser.add_argument("--seeds", type=int, default=2, help="training runs")
    parser.add_argument("--dev", type=int, default=1000, help="development problems")
    parser.add_argument("--test", type=int, default=4000, help="test problems")
    options, overrides = parse_command_line(parser, argv)
    alone = [row for path in options.alone for row in alone_in(path, options.test)]
    with studying(options, overrides) as study:
        for seed in range(options.seeds):
            measure(study, seed)
        rows, config = study.rows.all, study.config()
    ours = [row for row in rows if row["split"] == "test"]
    result = {
        "command": shlex.join(["python", "scripts/together.py", *argv]),
        "versions": {"reoac_jax": reoac_jax.__version__, "jax": jax.__version__},
        "platform": platform.machine(),
        "config": to_json(config),
        "rows": [against(row, alone) for row in ours],
    }
    accuracies = [row["accuracy"] for row in ours if row["family"] == ACTOR]
    if len(accuracies) > 1:
        result["over_seeds"] = over_seeds(accuracies)._asdict()
    write_json(options.output.with_suffix(".json"), result)
    return 0


def alone_in(path: Path, problems: int) -> list[Row]:
    """The rows of a study on so many test problems, without what checks. Raises `InputError`."""
    rows = rows_of(path, "--alone", problems)
    found = [row for row in rows if row["family"] != CHECKED]
    if not found:
        raise InputError(f"--alone {path} has no rows on {problems} test problems")
    return found


def measure(study: Study, seed: int) -> None:
    """A training run's actor on both splits."""
    config = study.config(seed=seed)
    parts = load_parts(config)
    run = trained_run(study, f"actor {seed}", study.options.config, config, {})
    trained = load_trained(run / CHECKPOINTS, parts)
    for policy, family in POLICIES.items():
        for split in ("dev", "test"):
            study.row("together", seed, family, policy, split, config, parts, trained)
    study.forget_programs()


def against(row: Row, alone: Sequence[Row]) -> Mapping[str, Any]:
    """One row, and at its mean passes the best of the others and the best mixture of two."""
    ours, budget = unpack(row), row["passes"]
    entry = {name: row[name] for name in ("seed", "family", "policy", "passes", "accuracy")}
    within = [other for other in alone if other["passes"] <= budget]
    mixed = at_budget([point(other) for other in alone], budget)
    if mixed is None:
        return entry
    best = max(within, key=lambda other: float(other["accuracy"]))
    return entry | {
        "best": {name: best[name] for name in ("subject", "seed", "policy", "passes", "accuracy")},
        "paired_difference_to_best": paired_difference(ours, unpack(best))._asdict(),
        "mixture_accuracy": float(np.mean(mixed)),
        "paired_difference_to_mixture": paired_difference(ours, mixed)._asdict(),
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
