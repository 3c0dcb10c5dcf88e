"""Does a learned denoising policy beat the usual samplers? Accuracy against mean forward passes.

    python scripts/study.py --config configs/tiny.py --output benchmarks/frontier_tiny

Stages, each skipped where its rows are there (a second call goes on where the first one stopped):

- samplers: every rule with its parameters swept on the development split; what lies on a rule's
  upper hull there is measured on the test split.
- sequences: the best fixed sequence of operators that a search on the development split finds.
- actors: training runs with several numbers of steps and costs a pass, their actors on both splits.
- control: the backbone fine-tuned further, by as many gradient steps and with the settings of its
  own last stage, under the orders that the other stages chose.
- trajectory: the backbone trained by the policy gradient over its own denoising, likewise.

OUTPUT.jsonl holds the rows, with the problems that each one solved and the hashes of configuration
and backbone; OUTPUT.json, .csv and .png what is read from them (`scripts/frontier/results.py`).
"""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import reoac_jax  # noqa: F401 - first: it says in one line what JAX refuses of the environment

# isort: split
import jax
from frontier.budgets import upper_hull
from frontier.grids import adaptive, scheduled
from frontier.results import write_results
from frontier.rows import Row, Rows, pack, point
from ml_collections import FrozenConfigDict
from sequence_search import search_sequence

from reoac_jax import sft, train
from reoac_jax.config import config_hash, load_config, parse_command_line
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import ACTOR, BETWEEN, RANDOM, Policy
from reoac_jax.evaluation.scoring import evaluate_policy, scores
from reoac_jax.learning.parts import Parts, Trained, load_parts, load_trained, untrained
from reoac_jax.runs.folder import CHECKPOINTS
from reoac_jax.system.errors import RunError, run_command
from reoac_jax.tasks import Task, make_task
from reoac_jax.tasks.problem_set import ProblemSet
from reoac_jax.tasks.task import Split

STAGES = ("samplers", "sequences", "actors", "control", "trajectory")
BLOCKS = (0, 4, 10)  # positions; 0: whole rows
STEPS = (4, 7)  # of the rules that are told how many they have
SEQUENCE_STEPS = (7,)
# What actors are trained with: steps, cost a step, and whether operators may reveal by confidence,
# as the adaptive rules do. Those of SEEDED in every seed, the others in one run each.
BOLD: Mapping[str, Any] = {
    "operators.names": ("O_NUM", "O_OP", "O_SCOPE", "O_NEXT", "O_FAST", "O_CONFIDENT"),
    "operators.O_SCOPE.threshold": 0.95,
    "operators.O_FAST.step_scale": 1.0,
    "operators.O_FAST.threshold": 0.7,
    "operators.O_CONFIDENT.threshold": 0.9,
    "rollout.empty_operator": "mask",
}
COSTS = (0.01, 0.03, 0.1)
ACTORS: Mapping[str, Mapping[str, Any]] = {
    "actor T7": {"rollout.max_steps": 7, "reward.cost_lambda": 0.01},
    "actor T20 0.01": {"rollout.max_steps": 20, "reward.cost_lambda": 0.01},
    **{
        f"bold T20 {cost}": {"rollout.max_steps": 20, "reward.cost_lambda": cost, **BOLD}
        for cost in COSTS
    },
}
SEEDED = ("actor T7", "bold T20 0.03")
TRAJECTORY = "configs/tiny_trajectory.py"


class Study:
    """What all stages share: the options, the task, the rows, and programs that serve again."""

    def __init__(self, options: Any, overrides: Sequence[str], task: Task):
        self.options, self.overrides, self.task = options, list(overrides), task
        self.rows = Rows(options.output.with_suffix(".jsonl"), config_hash(self.config()))
        self._policies: dict[str, list[Policy]] = {}

    def config(self, file: str | None = None, **changes: Any) -> FrozenConfigDict:
        """The configuration with further keys changed."""
        return load_config(file or self.options.config, [*self.overrides, *as_options(changes)])

    def row(
        self,
        subject: str,
        seed: int,
        family: str,
        policy: str,
        split: Split,
        config: FrozenConfigDict,
        parts: Parts,
        trained: Trained,
    ) -> Row:
        """One policy of one subject on the first problems of a split."""
        problems = self.options.dev if split == "dev" else self.options.test
        key = {
            "subject": subject,
            "seed": seed,
            "family": family,
            "policy": policy,
            "split": split,
            "problems": problems,
            "config_hash": config_hash(config),
            # Of what was trained over a base, the run's own record says more than the base's hash.
            "backbone_hash": f"{parts.base_hash}{trained.record.get('config_hash', '')}",
        }

        def measure() -> dict[str, Any]:
            chosen = ProblemSet.load(self.task, split, parts.tokenizer, config, problems)
            runner = self._policy(policy, config, parts)
            evaluation = evaluate_policy(
                runner, config, parts, trained.params, trained.heads, self.task, chosen
            )
            result = scores(evaluation)
            low, high = result["interval_95"]
            return {
                "accuracy": result["accuracy"],
                "low": low,
                "high": high,
                "passes": result["forward_passes"],
                "passes_median": result["forward_passes_median"],
                "passes_max": result["forward_passes_max"],
                "cost": result["avg_cost"],
                "padding_share": result["padding_share"],
                "tokens_computed": result["tokens_computed"],
                "seconds": round(result["seconds"], 2),
                "correct": pack([grade.correct for grade in evaluation.grades]),
            }

        return self.rows.measured(key, measure)

    def forget_programs(self) -> None:
        """Lets go of what was compiled; a process may hold so many memory mappings and no more."""
        self._policies.clear()
        jax.clear_caches()

    def _policy(self, name: str, config: FrozenConfigDict, parts: Parts) -> Policy:
        """A runner of that policy; one that differs in a sampler's numbers alone is used again."""
        where = config_hash(config)
        for made in self._policies.setdefault(where, []):
            try:
                return made.with_numbers(name)
            except ValueError:
                continue
        made = Policy(name, config, parts, sharding.make_mesh())
        self._policies[where].append(made)
        return made


def as_options(changes: Mapping[str, Any]) -> list[str]:
    return [f"--config.{key}={value}" for key, value in changes.items()]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="path without an ending")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--seeds", type=int, default=3, help="training runs of each actor")
    parser.add_argument("--backbone-seeds", type=int, default=3, help="and of each backbone")
    parser.add_argument("--dev", type=int, default=1000, help="development problems")
    parser.add_argument("--test", type=int, default=1000, help="test problems")
    options, overrides = parse_command_line(parser, argv)
    sizes = as_options({"task.dev_size": options.dev, "task.test_size": options.test})
    overrides = [*overrides, *sizes]
    config = load_config(options.config, overrides)
    task = make_task(config.task, config.grader)
    study = Study(options, overrides, task)
    try:
        for stage in STAGES:
            if stage in options.stages:
                globals()[f"measure_{stage}"](study)
                study.forget_programs()
    finally:
        task.close()
    command = shlex.join(["python", "scripts/study.py", *argv])
    write_results(study.rows.all, options.output, config, command)
    return 0


def measure_samplers(study: Study) -> None:
    """Every rule on the development split; the hull of each, on the test split."""
    config = study.config()
    parts = load_parts(config)
    trained = untrained(config, parts)
    policies = [*adaptive(BLOCKS), *scheduled(STEPS, BLOCKS), (RANDOM, RANDOM)]
    for family, policy in policies:
        study.row("bundled", 0, family, policy, "dev", config, parts, trained)
    for family, policy in chosen(study, "bundled"):
        study.row("bundled", 0, family, policy, "test", config, parts, trained)


def chosen(study: Study, subject: str) -> list[tuple[str, str]]:
    """Family and policy of what lies on a family's upper hull on the development split."""
    families: dict[str, list[Row]] = {}
    for row in study.rows.all:
        if (row["subject"], row["split"], row["seed"]) == (subject, "dev", 0):
            families.setdefault(row["family"], []).append(row)
    return [
        (family, found.name)
        for family, rows in families.items()
        for found in upper_hull([point(row) for row in rows])
    ]


def measure_sequences(study: Study) -> None:
    """The best fixed sequences of operators; the row's policy is the sequence.

    Of the operators that reveal an even quota, for each number of steps; of the bold ones, for as
    many steps as bold actors have, and each bold operator alone, from the first step to the last.
    """
    bold = {"rollout.max_steps": 20, **BOLD}
    for steps in SEQUENCE_STEPS:
        searched(study, "sequence", {"rollout.max_steps": steps})
    searched(study, "bold sequence", bold)
    config = study.config(**bold)
    parts = load_parts(config)
    for name in config.operators.names:
        for split in ("dev", "test"):
            before = untrained(config, parts)
            study.row("bundled", 0, f"bold {name}", name, split, config, parts, before)


def searched(study: Study, family: str, changes: Mapping[str, Any]) -> None:
    """The sequence that the search finds under a configuration, on both splits."""
    config = study.config(**changes)
    parts = load_parts(config)
    done = [
        row
        for row in study.rows.all
        if row["family"] == family and row["config_hash"] == config_hash(config)
    ]
    if not done:
        found = search_sequence(config, parts, study.task, seed=0)
        print(f"best of {found.tried} sequences: {found.policy}", flush=True)
    policy = done[0]["policy"] if done else found.policy
    for split in ("dev", "test"):
        study.row("bundled", 0, family, policy, split, config, parts, untrained(config, parts))


def measure_actors(study: Study) -> None:
    """The trained actors over the frozen backbone, and the first of them untrained."""
    for subject, changes in ACTORS.items():
        for seed in range(study.options.seeds if subject in SEEDED else 1):
            config = study.config(**changes, seed=seed)
            parts = load_parts(config)
            run = trained_run(study, f"{subject} {seed}", study.options.config, config, changes)
            trained = load_trained(run / CHECKPOINTS, parts)
            for split in ("dev", "test"):
                study.row(subject, seed, ACTOR, ACTOR, split, config, parts, trained)
            if seed == 0:
                before = untrained(config, parts)
                name = f"{subject} untrained"
                study.row(name, seed, ACTOR, ACTOR, "test", config, parts, before)
            study.forget_programs()


def measure_control(study: Study) -> None:
    """The fair control for training the backbone: more of its own last stage of fine-tuning."""
    trajectory = study.config(TRAJECTORY)
    steps = trajectory.train.iterations * trajectory.train.backbone_steps
    for seed in range(study.options.backbone_seeds):
        changes = {
            "seed": seed,
            "task.train_part": "reserved",
            "backbone.dropout": 0.0,
            "sft.steps": steps,
            "sft.warmup_steps": 0,
            "sft.batch_size": 128,
            "sft.learning_rate": 5e-4,
            "sft.eos_weight": 0.2,
            "sft.eval_every": 10**8,
            "sft.checkpoint_every": 200,
        }
        name = f"{study.options.output.name}_control_{seed}"
        parent = Path(study.config().output_dir) / name
        if not list(parent.glob("*/backbone")):
            argv = ["--config", study.options.config, *study.overrides, *as_options(changes)]
            if sft.main([*argv, f"--config.exp_name={name}"]) != 0:
                raise RunError(f"the fine-tuning {name} was stopped; call the study again")
        folder = max(parent.glob("*/backbone"))
        config = study.config(**{"backbone.path": folder})
        parts = load_parts(config)
        same_orders(study, "control", seed, config, parts, untrained(config, parts))
        study.forget_programs()


def measure_trajectory(study: Study) -> None:
    """The backbone after the policy gradient over its own denoising."""
    for seed in range(study.options.backbone_seeds):
        config = study.config(TRAJECTORY, seed=seed)
        parts = load_parts(config)
        run = trained_run(study, f"trajectory {seed}", TRAJECTORY, config, {})
        trained = load_trained(run / CHECKPOINTS, parts)
        same_orders(study, "trajectory", seed, study.config(), parts, trained)
        study.forget_programs()


def same_orders(
    study: Study,
    subject: str,
    seed: int,
    config: FrozenConfigDict,
    parts: Parts,
    trained: Trained,
) -> None:
    """A trained backbone under the orders chosen for the one that it started from.

    The best adaptive rules, the schedules by hand, the sequence that the search found, and the
    actors of the actors' stage, whose heads know only the backbone as it was.
    """
    families = ("threshold", "entropy_bound", "prefix_threshold", "by_hand")
    for family, policy in chosen(study, "bundled"):
        if family in families:
            study.row(subject, seed, family, policy, "test", config, parts, trained)
    bundled = study.config()
    path = {"backbone.path": config.backbone.path}
    for row in [row for row in study.rows.all if row["family"] == "sequence"]:
        if (row["subject"], row["split"]) == ("bundled", "test"):
            policy = row["policy"]
            steps = {"rollout.max_steps": policy.count(BETWEEN) + 1}
            told = study.config(**path, **steps)
            study.row(subject, seed, "sequence", policy, "test", told, parts, trained)
    for label, changes in ACTORS.items():
        runs = run_parent(study, f"{label} 0", bundled)
        if finished := sorted(runs.glob(f"*/{CHECKPOINTS}")):
            picks = study.config(**path, **changes)
            heads = load_trained(finished[-1], load_parts(study.config(**changes))).heads
            moved = dataclasses.replace(trained, heads=heads)
            its_parts = dataclasses.replace(parts, heads=load_parts(picks).heads)
            study.row(subject, seed, label, ACTOR, "test", picks, its_parts, moved)


def run_parent(study: Study, label: str, config: FrozenConfigDict) -> Path:
    """Where the training runs of a label lie."""
    return Path(config.output_dir) / f"{study.options.output.name}_{label.replace(' ', '_')}"


def trained_run(
    study: Study, label: str, file: str, config: FrozenConfigDict, changes: Mapping[str, Any]
) -> Path:
    """The folder of a finished run: an earlier one of that name, gone on with, or a new one."""
    parent = run_parent(study, label, config)
    earlier = sorted(parent.glob("*/checkpoints/[0-9]*"))
    if earlier:
        argv = ["--resume", str(earlier[-1].parents[1])]
    else:
        options = as_options({**changes, "seed": config.seed, "exp_name": parent.name})
        argv = ["--config", file, *study.overrides, *options]
    if train.main(argv) != 0:
        raise RunError(
            f"the training run {parent.name} was stopped; the same command goes on with it"
        )
    return max(parent.iterdir(), key=lambda run: run.name)


if __name__ == "__main__":
    sys.exit(run_command(main))
