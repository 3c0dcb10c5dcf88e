"""Does a learned denoising policy beat the usual samplers? Accuracy of every policy at equal steps.

    python scripts/study.py --config configs/tiny.py --output benchmarks/study_tiny
    python scripts/study.py --config configs/tiny.py --output /tmp/quick --seeds 1 --modes frozen

For every number of steps and every policy: accuracy on unseen problems, with its 95 % interval,
forward passes and cost. At the configuration's own number of steps also the best fixed sequence of
operators that a search on training problems finds. Then, for every finetune mode and seed, a
training run with the configuration's own number of steps, and the same evaluation of its actor
before and after; and for comparison with the modes that train the backbone, samplers on a backbone
fine-tuned further, by as many supervised gradient steps on the same problems. Each row is written
to OUTPUT.jsonl as soon as it is known, and a second call goes on where the first one stopped; at
the end OUTPUT.json, OUTPUT.csv and OUTPUT.png hold all of it.
"""

import argparse
import csv
import json
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from ml_collections import FrozenConfigDict
from sequence_search import search_sequence

import reoac_jax
from reoac_jax import sft, train
from reoac_jax.config import config_hash, load_config, parse_command_line, to_json
from reoac_jax.evaluation.policies import ACTOR, RANDOM
from reoac_jax.evaluation.scoring import evaluate_policy, scores
from reoac_jax.learning.parts import Trained, load_parts, load_trained, untrained
from reoac_jax.runs.folder import CHECKPOINTS, METRICS
from reoac_jax.samplers import SAMPLERS
from reoac_jax.system.errors import RunError, run_command
from reoac_jax.system.files import replacing_file, write_json
from reoac_jax.tasks import Task, make_task
from reoac_jax.tasks.problem_set import ProblemSet

MODES = ("frozen", "lora", "full")
SEQUENCE = "best_sequence"
# The others give the same at every seed.
RANDOMISED = (RANDOM, *(name for name, rule in SAMPLERS.items() if rule.is_random))
# A LoRA overlay starts from nothing and takes a higher rate than all weights do.
MODE_CHANGES = {"frozen": {}, "lora": {"optimizer__backbone_rate": 1e-3}, "full": {}}
CONTINUED = "sft"  # mode of the rows on a backbone that was fine-tuned further
_LEARNED = {"REOAC frozen": "black", "REOAC lora": "tab:red", "REOAC full": "tab:blue"}
_LAST = 10  # iterations at a run's end over which its critic is judged
FIELDS = ("policy", "mode", "trained", "seed", "steps", "accuracy", "low", "high", "correct",
          "samples", "forward_passes", "cost", "explained_variance")  # fmt: skip
Row = dict[str, Any]


class Study:
    """The rows so far, and how to add one that is not there yet."""

    def __init__(self, path: Path):
        self._path = path
        self.rows: list[Row] = []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def add(self, key: Row, measure: Callable[[], dict[str, Any]]) -> None:
        """Measures and stores the row named by `key`, unless it is stored."""
        if any(all(row[name] == value for name, value in key.items()) for row in self.rows):
            return
        result = measure()
        low, high = result["interval_95"]
        row = key | {
            "accuracy": result["accuracy"],
            "low": low,
            "high": high,
            "correct": result["correct"],
            "samples": result["samples"],
            "forward_passes": result["forward_passes"],
            "cost": result["avg_cost"],
            "operator_shares": result["operator_shares"],
        }
        if "explained_variance" in result:
            row["explained_variance"] = result["explained_variance"]
        self.rows.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{row['policy']:>18} {row['mode'] or '':>6} {'trained' if row['trained'] else '':>7} "
            f"seed {row['seed']} {row['steps']:>2} steps: {row['accuracy']:.1%}, "
            f"{row['forward_passes']:.1f} passes, cost {row['cost']:.1f}",
            flush=True,
        )


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="path without an ending")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--modes", nargs="*", choices=MODES, default=list(MODES))
    parser.add_argument("--problems", type=int, default=1000, help="test problems")
    parser.add_argument(
        "--only-learned", action="store_true", help="leave out what needs no training of a policy"
    )
    options, overrides = parse_command_line(parser, argv)
    config = load_config(options.config, overrides)
    # The steps that the actor is trained for belong to every comparison.
    steps = sorted({*options.steps, config.rollout.max_steps})
    study = Study(options.output.with_suffix(".jsonl"))
    task = make_task(config.task, config.grader)
    try:
        if not options.only_learned:
            baselines(study, config, overrides, options, steps, task)
            best_sequence(study, config, options, task)
        for mode in options.modes:
            for seed in range(options.seeds):
                learned(study, options, overrides, mode, seed, steps, task)
        if set(options.modes) & {"lora", "full"}:
            for seed in range(options.seeds):
                continued(study, options, overrides, seed, task)
    finally:
        task.close()
    write_results(study, options.output, config, argv)
    return 0


def with_changes(options: Any, overrides: Sequence[str], **changes: Any) -> FrozenConfigDict:
    """The configuration with further keys changed, `__` for the dot."""
    texts = [f"--config.{key.replace('__', '.')}={value}" for key, value in changes.items()]
    return load_config(options.config, [*overrides, *texts])


def score(
    name: str, config: FrozenConfigDict, trained: Trained | None, task: Task, problems: int
) -> dict[str, Any]:
    """`evaluation.scores` of one policy; of the untrained actor if `trained` is None."""
    parts = load_parts(config)
    problem_set = ProblemSet.load(task, "test", parts.tokenizer, config, problems)
    if trained is None:
        trained = untrained(config, parts)
    return scores(
        evaluate_policy(name, config, parts, trained.params, trained.heads, task, problem_set)
    )


def baselines(
    study: Study,
    config: FrozenConfigDict,
    overrides: Sequence[str],
    options: Any,
    steps: Iterable[int],
    task: Task,
) -> None:
    """Samplers, single operators and random choice, on the configuration's backbone as it is."""
    for count in steps:
        for name in (*SAMPLERS, *config.operators.names, RANDOM):
            for seed in range(options.seeds if name in RANDOMISED else 1):
                changed = with_changes(
                    options,
                    overrides,
                    rollout__max_steps=count,
                    rollout__branch_steps="()",
                    seed=seed,
                )
                key = {"policy": name, "mode": None, "trained": False, "seed": seed, "steps": count}
                study.add(key, lambda n=name, c=changed: score(n, c, None, task, options.problems))


def best_sequence(study: Study, config: FrozenConfigDict, options: Any, task: Task) -> None:
    """The best fixed sequence at the configuration's number of steps; `policy` holds it."""

    def measure() -> dict[str, Any]:
        found = search_sequence(config, load_parts(config), task, seed=0)
        print(f"best of {found.tried} sequences, {found.accuracy:.1%} in training: {found.policy}")
        return score(found.policy, config, None, task, options.problems)

    steps = config.rollout.max_steps
    key = {"policy": SEQUENCE, "mode": None, "trained": False, "seed": 0, "steps": steps}
    study.add(key, measure)


def continued(study: Study, options: Any, overrides: Sequence[str], seed: int, task: Task) -> None:
    """Samplers on a backbone after further supervised fine-tuning on the policy's problems."""
    config = with_changes(options, overrides, seed=seed)
    name = f"{options.output.name}_{CONTINUED}_{seed}"
    changes = {
        "exp_name": name,
        "seed": seed,
        "sft__steps": config.train.iterations * config.train.backbone_steps,
        "sft__warmup_steps": 0,
        "sft__learning_rate": config.optimizer.backbone_rate,
        "sft__batch_size": config.train.backbone_batch,
        "sft__eval_every": 10**8,
    }
    own = with_changes(options, overrides, **changes)
    parent = Path(own.output_dir) / name
    finished = sorted(parent.glob("*/backbone"))
    if not finished:
        texts = [f"--config.{key.replace('__', '.')}={value}" for key, value in changes.items()]
        if sft.main(["--config", options.config, *overrides, *texts]) != 0:
            raise RunError(f"the fine-tuning {name} was stopped; call the study again")
        finished = sorted(parent.glob("*/backbone"))
    steps = config.rollout.max_steps
    changed = with_changes(options, overrides, seed=seed, backbone__path=finished[-1])
    for policy in (*SAMPLERS, *config.operators.names):
        key = {"policy": policy, "mode": CONTINUED, "trained": True, "seed": seed, "steps": steps}
        study.add(key, lambda n=policy: score(n, changed, None, task, options.problems))


def learned(
    study: Study,
    options: Any,
    overrides: Sequence[str],
    mode: str,
    seed: int,
    steps: Iterable[int],
    task: Task,
) -> None:
    """One training run and its actor, before and after, at every number of steps."""
    changes = {"backbone__finetune_mode": mode, "seed": seed, **MODE_CHANGES[mode]}
    name = f"{options.output.name}_{mode}_{seed}"
    own = with_changes(options, overrides, exp_name=name, **changes)
    run = trained_run(own, options, overrides, name, changes)
    for count in steps:
        config = with_changes(
            options, overrides, rollout__max_steps=count, rollout__branch_steps="()", **changes
        )
        for after in (False, True):
            key = {"policy": ACTOR, "mode": mode, "trained": after, "seed": seed, "steps": count}

            def measure(c: FrozenConfigDict = config, after: bool = after) -> dict[str, Any]:
                if not after:
                    return score(ACTOR, c, None, task, options.problems)
                trained = load_trained(run / CHECKPOINTS, load_parts(c))
                result = score(ACTOR, c, trained, task, options.problems)
                return result | {"explained_variance": explained_variance(run)}

            study.add(key, measure)


def explained_variance(run: Path) -> float:
    """Of the critic in a run's last iterations, each on episodes it had not learned from."""
    lines = (run / METRICS).read_text().splitlines()[-_LAST:]
    return sum(json.loads(line)["explained_variance"] for line in lines) / len(lines)


def trained_run(
    config: FrozenConfigDict,
    options: Any,
    overrides: Sequence[str],
    name: str,
    changes: dict[str, Any],
) -> Path:
    """The folder of a finished run of that name: an earlier one, gone on with, or a new one."""
    parent = Path(config.output_dir) / name
    earlier = sorted(parent.glob("*/checkpoints/[0-9]*/actor"))
    if earlier:
        run = earlier[-1].parents[2]
        argv = ["--resume", str(run)]
    else:
        texts = [f"--config.{key.replace('__', '.')}={value}" for key, value in changes.items()]
        argv = ["--config", options.config, *overrides, f"--config.exp_name={name}", *texts]
    if train.main(argv) != 0:
        raise RunError(f"the training run {name} was stopped; the same command goes on with it")
    return max(parent.iterdir()) if not earlier else run


def write_results(
    study: Study, output: Path, config: FrozenConfigDict, argv: Sequence[str]
) -> None:
    """The table as JSON and CSV, and the picture."""
    write_json(
        output.with_suffix(".json"),
        {
            "command": " ".join(["python scripts/study.py", *argv]),
            "config": to_json(config),
            "config_hash": config_hash(config),
            "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}",
            "versions": {"reoac-jax": reoac_jax.__version__, "jax": jax.__version__},
            "rows": study.rows,
        },
    )
    with replacing_file(output.with_suffix(".csv")) as temporary, temporary.open("w") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(study.rows)
    figure = draw(study.rows)
    with replacing_file(output.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    print(f"wrote {output}.json, .csv and .png")


def draw(rows: Sequence[Row]) -> plt.Figure:
    """Accuracy against forward passes and against cost: means over seeds, intervals pooled."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 5.5), sharey=True, layout="constrained")
    groups: dict[str, list[Row]] = {}
    for row in rows:
        label = row["policy"]
        if row["mode"] == CONTINUED:
            continue
        if row["policy"] == ACTOR and not row["trained"]:
            label = "REOAC untrained"  # the same in every mode
        elif row["policy"] == ACTOR:
            label = f"REOAC {row['mode']}"
        groups.setdefault(label, []).append(row)
    colours = plt.get_cmap("tab20").colors
    for index, (label, members) in enumerate(groups.items()):
        if label in _LEARNED:
            style = {"linewidth": 2.6, "zorder": 5, "color": _LEARNED[label]}
        elif label == SEQUENCE:
            style = {"zorder": 6, "color": "black", "marker": "*", "markersize": 11}
        else:
            style = {"linewidth": 1.0, "alpha": 0.6, "color": colours[index % len(colours)]}
        by_steps: dict[int, list[Row]] = {}
        for row in members:
            by_steps.setdefault(row["steps"], []).append(row)
        for axis, measure in zip(axes, ("forward_passes", "cost"), strict=True):
            x = [_mean(group, measure) for group in by_steps.values()]
            y = [_mean(group, "accuracy") for group in by_steps.values()]
            errors = [
                [_mean(group, "accuracy") - _mean(group, "low") for group in by_steps.values()],
                [_mean(group, "high") - _mean(group, "accuracy") for group in by_steps.values()],
            ]
            axis.errorbar(
                x, y, yerr=errors, label=label, capsize=2,
                linestyle="-" if label.startswith("REOAC") else "--",
                **{"marker": "o", "markersize": 4} | style,
            )  # fmt: skip
    axes[0].set_xlabel("forward passes a problem")
    axes[1].set_xlabel("operator cost a problem")
    axes[0].set_ylabel("accuracy on unseen problems (95 % intervals)")
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def _mean(rows: Sequence[Row], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


if __name__ == "__main__":
    sys.exit(run_command(main))
