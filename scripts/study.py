"""Does a learned denoising policy beat the usual samplers? Accuracy against mean forward passes.

    python scripts/study.py --config configs/tiny.py --output benchmarks/frontier_tiny

Stages, each skipped where its rows are there (a second call goes on where the first one stopped):

- samplers: every rule with its parameters swept on the development split, and the loop of checks
  and rewriting around some; what lies on a rule's upper hull there, and is at most 5 points behind
  the best rule or beside such a point, is measured on the test split.
- sequences: single operators with their thresholds swept, and the best fixed sequences of operators
  that searches on the development split find, one for accuracy alone and one that charges passes.
- actors: training runs with several numbers of steps and costs a pass, their actors on both splits.
- positions: the policy over positions (`CONFIG_positions.py`, beside the configuration), trained to
  several prices of a pass (and one that starts with the numbers, where `CONFIG_numbers.py` is
  there), its best positions on both splits, as it draws them, and biased to other
  numbers of passes.
- control: the backbone fine-tuned further, by as many gradient steps and with the settings of its
  own last stage, under the orders that the other stages chose.
- trajectory: the backbone trained by the policy gradient over its own denoising, likewise
  (`CONFIG_trajectory.py`).
- together: actor and backbone trained together (`CONFIG_together.py`), likewise biased, from the
  trajectory's backbone and a policy over positions that writes from the left over it; and that
  backbone trained further alone, in five passes (`CONFIG_in_five.py`).

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
from frontier.grids import (
    ACTORS,
    BIASED,
    BIASES,
    BOLD,
    FROM_THE_LEFT,
    IN_FIVE,
    LENGTHS,
    OPERATOR_THRESHOLDS,
    SEARCHED,
    SEEDED,
    TOGETHER,
    adaptive,
    rewriting,
    scheduled,
)
from frontier.measure import (
    Study,
    as_options,
    kept_backbone,
    of_its_lengths,
    run_parent,
    studying,
    trained_run,
)
from frontier.results import write_results
from frontier.selection import chosen, close_to_the_best
from ml_collections import FrozenConfigDict
from sequence_search import search_sequence

from reoac_jax import sft
from reoac_jax.config import config_hash, parse_command_line
from reoac_jax.evaluation.policies import ACTOR, BETWEEN, RANDOM
from reoac_jax.learning.parts import Parts, Trained, load_parts, load_trained, untrained
from reoac_jax.runs.folder import CHECKPOINTS
from reoac_jax.system.errors import InputError, RunError, run_command
from reoac_jax.tasks.task import Split

STAGES = ("samplers", "sequences", "actors", "positions", "control", "trajectory", "together")
# Stages with a configuration beside the study's own: `tiny_positions.py` of `tiny.py`.
BESIDE = {
    "positions": "positions",
    "control": "trajectory",
    "trajectory": "trajectory",
    "together": "together",
    IN_FIVE: "in_five",
}
BOTH: tuple[Split, ...] = ("dev", "test")
DRAWN = f"{ACTOR}:selection=sample"  # as a policy chooses while it trains
OF_POSITIONS = (
    (ACTOR, ACTOR),
    ("actor, drawn", DRAWN),
    *((BIASED, f"{ACTOR}:logit_bias={bias}") for bias in BIASES),
)


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
    with studying(options, overrides) as study:
        of_its_lengths(study, LENGTHS)
        for stage in sorted(BESIDE.keys() & set(options.stages)):
            beside(study, stage)
        for stage in STAGES:
            if stage in options.stages:
                globals()[f"measure_{stage}"](study)
                study.forget_programs()
    command = shlex.join(["python", "scripts/study.py", *argv])
    write_results(study.rows.all, options.output, study.config(), command)
    return 0


def beside(study: Study, stage: str) -> str:
    """A stage's configuration. Raises `InputError` where there is none."""
    path = named_beside(study, BESIDE[stage])
    if not path.exists():
        raise InputError(
            f"--stages has {stage}, but there is no {path}; expected that configuration, or "
            "--stages without it"
        )
    return str(path)


def named_beside(study: Study, name: str) -> Path:
    """Where a configuration of that name belongs: `tiny_NAME.py` beside `tiny.py`."""
    own = Path(study.options.config)
    return own.with_name(f"{own.stem}_{name}{own.suffix}")


def measure_samplers(study: Study) -> None:
    """Every rule on the development split; the hull of each, on the test split."""
    config = study.config()
    parts = load_parts(config)
    trained = untrained(config, parts)
    lengths = of_its_lengths(study, LENGTHS)
    rules = (
        adaptive(lengths.blocks),
        scheduled(lengths, config.rollout.gen_len),
        ((RANDOM, RANDOM),),
    )
    for kinds in (rules, (rewriting(lengths),)):
        for policies in kinds:
            for family, policy in policies:
                study.row("bundled", 0, family, policy, "dev", config, parts, trained)
            study.forget_programs()
        for family, policy in close_to_the_best(study, chosen(study, "bundled", config)):
            study.row("bundled", 0, family, policy, "test", config, parts, trained)
        study.forget_programs()


def measure_sequences(study: Study) -> None:
    """The best fixed sequences of operators; the row's policy is the sequence.

    Each bold operator alone, from the first step to the last, as it is and with other thresholds;
    of these, for as many steps as a row has positions, what a search finds; and of the operators
    that reveal an even quota, for each number of steps.
    """
    bold = {"rollout.max_steps": study.config().rollout.gen_len, **BOLD}
    config = study.config(**bold)
    parts = load_parts(config)
    before = untrained(config, parts)
    for name in config.operators.names:
        own = config.operators[name].threshold
        others = () if name == "O_NEXT" else set(OPERATOR_THRESHOLDS) - {own}  # of one position
        for policy in (name, *(f"{name}:threshold={t}" for t in sorted(others))):
            study.row("bundled", 0, f"bold {name}", policy, "dev", config, parts, before)
        study.row("bundled", 0, f"bold {name}", name, "test", config, parts, before)
        study.forget_programs()
    for family, policy in close_to_the_best(study, chosen(study, "bundled", config)):
        study.row("bundled", 0, family, policy, "test", config, parts, before)
    for family, (changes, charge) in SEARCHED.items():
        searched(study, family, {**bold, **changes}, charge)
    for steps in of_its_lengths(study, LENGTHS).sequence_steps:
        searched(study, "sequence", {"rollout.max_steps": steps})


def searched(study: Study, family: str, changes: Mapping[str, Any], charge: float = 0.0) -> None:
    """The sequence that the search finds under a configuration, on both splits."""
    config = study.config(**changes)
    parts = load_parts(config)
    done = [
        row
        for row in study.rows.all
        if row["family"] == family and row["config_hash"] == config_hash(config)
    ]
    if not done:
        found = search_sequence(config, parts, study.task, seed=0, charge=charge)
        print(f"best of {found.tried} sequences: {found.policy}", flush=True)
    policy = done[0]["policy"] if done else found.policy
    for split in BOTH:
        study.row("bundled", 0, family, policy, split, config, parts, untrained(config, parts))


def measure_actors(study: Study) -> None:
    """The trained actors over the frozen backbone, and the first of them untrained."""
    for subject, changes in ACTORS.items():
        seeds = study.options.seeds if subject in SEEDED else 1
        measure_seeds(study, subject, study.options.config, changes, ((ACTOR, ACTOR),), seeds)
        config = study.config(**changes, seed=0)
        parts = load_parts(config)
        before = untrained(config, parts)
        study.row(f"{subject} untrained", 0, ACTOR, ACTOR, "test", config, parts, before)
        study.forget_programs()


def measure_positions(study: Study) -> None:
    """The policies over positions on the frozen backbone; the first of them untrained; and where
    there is a configuration for it (`mixed_numbers.py`) those that start with the numbers."""
    file = beside(study, "positions")
    lengths = of_its_lengths(study, LENGTHS)
    for exponent in lengths.exponents:
        changes = {"reward.passes_exponent": exponent}
        seeds = study.options.seeds if exponent in lengths.seeded else 1
        measure_seeds(study, f"positions {exponent}", file, changes, OF_POSITIONS, seeds)
        if (numbers := named_beside(study, "numbers")).exists():
            subject = f"numbers first {exponent}"
            measure_seeds(study, subject, str(numbers), changes, OF_POSITIONS, 1)
    first = {"reward.passes_exponent": lengths.exponents[0]}
    config = study.config(file, **first, seed=0)
    parts = load_parts(config)
    before = untrained(config, parts)
    study.row("positions untrained", 0, ACTOR, DRAWN, "test", config, parts, before)
    study.forget_programs()


def measure_seeds(
    study: Study,
    subject: str,
    file: str,
    changes: Mapping[str, Any],
    policies: Sequence[tuple[str, str]],
    seeds: int,
) -> None:
    """The policies of the training runs of a subject, each a family and a name, on both splits."""
    wanted = [(family, policy, split) for family, policy in policies for split in BOTH]
    for seed in range(seeds):
        config = study.config(file, **changes, seed=seed)
        parts = load_parts(config)
        if study.has(subject, seed, config, parts.base_hash, wanted):
            continue
        run = trained_run(study, f"{subject} {seed}", file, config, changes)
        trained = load_trained(run / CHECKPOINTS, parts)
        for family, policy, split in wanted:
            study.row(subject, seed, family, policy, split, config, parts, trained)
        study.forget_programs()


def measure_control(study: Study) -> None:
    """The fair control for training the backbone: more of its own last stage of fine-tuning."""
    trajectory = study.config(beside(study, "control"))
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
    file = beside(study, "trajectory")
    for seed in range(study.options.backbone_seeds):
        config = study.config(file, seed=seed)
        parts = load_parts(config)
        run = trained_run(study, f"trajectory {seed}", file, config, {})
        trained = load_trained(run / CHECKPOINTS, parts)
        same_orders(study, "trajectory", seed, study.config(), parts, trained)
        study.forget_programs()


def measure_together(study: Study) -> None:
    """The policy over positions over the backbone that was trained along with it.

    All seeds start where the trajectory's first run left the backbone, and from the heads that
    learned to write from the left over it. Beside it that backbone trained further alone.
    """
    files = {name: beside(study, name) for name in ("trajectory", "positions", TOGETHER, IN_FIVE)}
    backbone = trajectory_backbone(study, files["trajectory"])
    further = {"backbone.path": backbone}
    start = study.config(**further)
    parts = load_parts(start)
    for seed in range(study.options.backbone_seeds):
        config = study.config(files[IN_FIVE], **further, seed=seed)
        run = trained_run(study, f"{IN_FIVE} {seed}", files[IN_FIVE], config, further)
        same_orders(study, IN_FIVE, seed, start, parts, load_trained(run / CHECKPOINTS, parts))
        study.forget_programs()
    first = {"backbone.path": backbone, **FROM_THE_LEFT}
    slow = study.config(files["positions"], **first, seed=0)
    heads = trained_run(study, "from the left", files["positions"], slow, first)
    changes = {"backbone.path": backbone, "heads.checkpoint": heads}
    seeds = study.options.backbone_seeds
    measure_seeds(study, TOGETHER, files[TOGETHER], changes, OF_POSITIONS, seeds)


def trajectory_backbone(study: Study, file: str) -> Path:
    """A folder with the backbone as the trajectory's first run left it."""
    config = study.config(file, seed=0)
    return kept_backbone(
        run_parent(study, "trajectory backbone", config),
        lambda: trained_run(study, "trajectory 0", file, config, {}),
    )


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
    for family, policy in chosen(study, "bundled", study.config()):
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
        else:
            print(f"left out: {subject} under {label}, whose run is not in {runs}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_command(main))
