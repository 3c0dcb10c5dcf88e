"""What a policy gradient over denoising is worth where passes are few, against more fine-tuning.

    python scripts/few_passes.py --config configs/tiny_few_passes.py \\
        --output benchmarks/few_passes_tiny
    python scripts/few_passes.py --config configs/mixed_few_passes.py --seeds 1 \\
        --after configs/mixed_trajectory.py --subjects start control full \\
        --output benchmarks/few_passes_mixed

Four backbones: as it is; fine-tuned further (as many gradient steps and as many examples as the
training below has steps and episodes, with the settings of its own last stage); trained by the
configuration, once for each seed, all weights and an overlay (LoRA). With `--after` the training
has two runs: that configuration's, and from the backbone that it leaves the one of `--config`.

Each is swept alike: rules that decide themselves how much they reveal, and schedules by hand, on
the development split; what lies on the upper hull there, and the best schedule of each length, is
measured on the test split, so that each stands in its own best order at every budget.

Beside it: the last three checkpoints on the development split in the order of training, and how
many problems 8 drawn answers solve and how many of them differ. OUTPUT.jsonl holds the rows, and a
second call goes on where the first one stopped; OUTPUT.json the tables that are read from them, and
OUTPUT.png the picture.
"""

import argparse
import functools
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import reoac_jax  # first: it says in one line what JAX refuses of the environment

# isort: split
import jax
import numpy as np
from frontier.backbones import (
    CONTROL,
    FULL,
    LORA,
    START,
    SUBJECTS,
    TRAINED,
    at,
    draw,
    in_order,
    show,
)
from frontier.budgets import upper_hull
from frontier.measure import (
    Study,
    as_options,
    kept_backbone,
    of_its_lengths,
    run_parent,
    studying,
    trained_run,
)
from frontier.rows import point
from ml_collections import FrozenConfigDict

from reoac_jax import sft
from reoac_jax.config import config_hash, parse_command_line, to_json
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import Policy
from reoac_jax.evaluation.scoring import evaluate_policy
from reoac_jax.learning.parts import Parts, Trained, load_parts, load_trained, untrained
from reoac_jax.runs.folder import CHECKPOINTS
from reoac_jax.system.errors import InputError, RunError, run_command
from reoac_jax.system.files import replacing_file, write_json
from reoac_jax.tasks.problem_set import ProblemSet


class Lengths(NamedTuple):
    """What depends on how many tokens an answer has.

    counts: of training through a window, from the left. schedules: left to right by hand, so many
    a pass, the last pass all the rest. budgets: mean passes at which the table compares. rules:
    beside `RULES`.
    """

    counts: str
    schedules: tuple[str, ...]
    budgets: tuple[float, ...]
    rules: tuple[tuple[str, str], ...] = ()


LENGTHS = {  # by the generated positions of a row
    20: Lengths(
        "4-4",
        (
            "4", "2-4", "2-5", "3-4", "4-4", "1-2-4", "2-2-4", "2-3-3", "2-2-2-2", "1-1-2-2-2",
            "1-1-1-1-1-2",
        ),
        (3.0, 4.0, 5.0, 6.0, 7.0),
    ),
    25: Lengths(  # answers of 12, 18 and 24 tokens
        "3-3-3-3-3-3-3",
        (
            "6-6-6", "4-4-8", "5-5-5-5", "4-4-5-5", "4-4-4-4-4", "3-4-4-4-5", "3-3-3-4-4-4",
            "2-3-4-4-4-4", "3-3-3-3-3-3-3", "2-2-2-3-3-3-3-3", "1-1-2-2-2-3-3-3-3",
            "1-1-1-1-1-2-2-2-2-2", "2-2-2-2-2-2-2-2-2-2-2",
        ),
        (4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0),
        (
            ("dilated:block_len=0", "dilated"),
            *((f"left_to_right:steps={n},skip_eos=true", "by length") for n in (4, 5, 6, 7, 8, 10)),
        ),
    ),
}  # fmt: skip
RULES = (
    *((f"threshold:threshold={t}", "threshold") for t in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)),
    *((f"entropy_bound:gamma={g}", "entropy bound") for g in (1.0, 0.5, 0.3, 0.2, 0.1, 0.03)),
    *((f"prefix_threshold:threshold={t}", "run from the left") for t in (0.5, 0.7, 0.9, 0.97)),
)
OVERLAY: Mapping[str, Any] = {
    "backbone.finetune_mode": "lora", "lora.rank": 16, "lora.alpha": 32.0,
    "lora.targets": ("attn_qkv", "attn_out", "mlp_in", "mlp_out"),
    "optimizer.backbone_rate": 1e-3,
}  # fmt: skip
# How one of the backbones is evaluated.
Subject = tuple[FrozenConfigDict, Parts, Trained]
DRAWS = 8  # answers of a problem, for pass@8
LAST = 3  # checkpoints


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--after", help="configuration of a training before that of --config")
    parser.add_argument("--output", type=Path, required=True, help="path without an ending")
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--seeds", type=int, default=3, help="training runs of each")
    parser.add_argument("--dev", type=int, default=1000, help="development problems")
    parser.add_argument("--test", type=int, default=4000, help="test problems")
    options, overrides = parse_command_line(parser, argv)
    if options.after and LORA in options.subjects:
        raise InputError(f"--after trains all weights; expected --subjects without {LORA}")
    drawn: dict[str, dict[str, float]] = {}
    with studying(options, overrides) as study:
        for subject in [name for name in SUBJECTS if name in options.subjects]:
            for seed in range(options.seeds if subject in TRAINED else 1):
                config, parts, trained = MAKERS[subject](study, seed)
                sweep(study, subject, seed, config, parts, trained)
                if seed == 0:
                    drawn[subject] = several_draws(study, config, parts, trained)
                study.forget_programs()
    result = {
        "command": shlex.join(["python", "scripts/few_passes.py", *argv]),
        "problems": options.test,
        "at_budgets": [
            at(study.rows.all, budget) for budget in of_its_lengths(study, LENGTHS).budgets
        ],
        "in_the_order_of_training": in_order(study.rows.all, order_of_training(study)),
        f"pass@{DRAWS}": drawn,
        "config": to_json(study.config()),
        "config_hash": config_hash(study.config()),
        "versions": {
            "reoac_jax": reoac_jax.__version__,
            "jax": jax.__version__,
            "python": platform.python_version(),
        },
    }
    write_json(options.output.with_suffix(".json"), result)
    figure = draw(study.rows.all)
    with replacing_file(options.output.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    show(result)
    return 0


def order_of_training(study: Study) -> str:
    """The policy in which the backbone is trained: by a share of the text, or by a window."""
    if "O_SHARE" in study.config().train.order:
        return "O_SHARE"
    return f"schedule:counts={of_its_lengths(study, LENGTHS).counts}"


def before(study: Study) -> dict[str, str]:
    """The key of the backbone as it was before all training."""
    return {"backbone.path": study.config(study.options.after).backbone.path}


def as_it_is(study: Study, seed: int) -> Subject:
    config = study.config(**before(study))
    parts = load_parts(config)
    return config, parts, untrained(config, parts)


def fine_tuned(study: Study, seed: int) -> Subject:
    """The backbone fine-tuned further by its last stage's settings on the episodes' problems."""
    files = dict.fromkeys([study.options.config, study.options.after or study.options.config])
    runs = [study.config(file, seed=seed, **before(study)) for file in files]
    steps = sum(run.train.iterations * run.train.backbone_steps for run in runs)
    examples = sum(run.train.iterations * run.train.episodes_per_iter for run in runs)
    changes = {
        **before(study),
        "seed": seed,
        "backbone.dropout": 0.0,
        "sft.steps": steps,
        "sft.warmup_steps": 0,
        "sft.batch_size": -(-examples // steps),
        "sft.learning_rate": 5e-4,
        "sft.eos_weight": 0.2,
        "sft.eval_every": 10**8,
        "sft.checkpoint_every": 200,
    }
    parent = run_parent(study, f"{CONTROL} {seed}", runs[0])
    if not list(parent.glob("*/backbone")):
        argv = ["--config", study.options.config, *study.overrides, *as_options(changes)]
        if sft.main([*argv, f"--config.exp_name={parent.name}"]) != 0:
            raise RunError("the fine-tuning was stopped; call again")
    config = study.config(**{"backbone.path": max(parent.glob("*/backbone"))})
    parts = load_parts(config)
    return config, parts, untrained(config, parts)


def trained_backbone(study: Study, seed: int, subject: str, changes: Mapping[str, Any]) -> Subject:
    """What a training run gave, its last checkpoint; the last few are measured on the way."""
    if study.options.after:
        changes = {**changes, "backbone.path": trained_before(study, seed)}
    training = study.config(seed=seed, **changes)
    run = trained_run(study, f"{subject} {seed}", study.options.config, training, changes)
    config = study.config(**changes)
    parts = load_parts(config)
    saved = sorted((run / CHECKPOINTS).glob("[0-9]*"), key=lambda folder: int(folder.name))
    for folder in saved[-LAST:]:
        before = load_trained(folder, parts)
        name = f"{subject}, iteration {folder.name}"
        study.row(
            name,
            seed,
            "by hand",
            order_of_training(study),
            "dev",
            config,
            parts,
            before,
        )
    return config, parts, load_trained(run / CHECKPOINTS, parts)


def trained_before(study: Study, seed: int) -> Path:
    """The folder of the backbone that the training of `--after` left."""
    file, label = study.options.after, f"before {seed}"
    config = study.config(file, seed=seed)
    return kept_backbone(
        run_parent(study, f"{label} backbone", config),
        lambda: trained_run(study, label, file, config, {}),
    )


MAKERS: Mapping[str, Callable[[Study, int], Subject]] = {
    START: as_it_is,
    CONTROL: fine_tuned,
    FULL: functools.partial(trained_backbone, subject=FULL, changes={}),
    LORA: functools.partial(trained_backbone, subject=LORA, changes=OVERLAY),
}


def sweep(
    study: Study,
    subject: str,
    seed: int,
    config: FrozenConfigDict,
    parts: Parts,
    trained: Trained,
) -> None:
    """All policies on the development split; on the test's what is best at some number of passes.

    That is the hull, the best schedule of each length, and the order of training.
    """
    lengths = of_its_lengths(study, LENGTHS)
    order = order_of_training(study)
    families = (
        dict([*RULES, *lengths.rules])
        | {order: "by length"}
        | {f"schedule:counts={counts}": "by hand" for counts in lengths.schedules}
    )
    rows = [
        study.row(subject, seed, family, policy, "dev", config, parts, trained)
        for policy, family in families.items()
    ]
    best = [found.name for found in upper_hull([point(row) for row in rows])]
    schedules = [row for row in rows if row["family"] == "by hand"]
    for passes in sorted({row["passes"] for row in schedules}):
        alike = [row for row in schedules if row["passes"] == passes]
        best.append(max(alike, key=lambda row: row["accuracy"])["policy"])
    for policy in dict.fromkeys([*best, order]):
        study.row(subject, seed, families[policy], policy, "test", config, parts, trained)


def several_draws(
    study: Study, config: FrozenConfigDict, parts: Parts, trained: Trained
) -> dict[str, float]:
    """Of drawn answers in the order of training: right ones, problems solved, different ones."""
    problems = ProblemSet.load(study.task, "dev", parts.tokenizer, config, study.options.dev)
    drawn = {"evaluation.sample_strategy": "sample"}
    policy = Policy(order_of_training(study), study.config(**drawn), parts, sharding.make_mesh())
    texts, correct = [], []
    for seed in range(DRAWS):
        drawing = study.config(**drawn, seed=seed)
        found = evaluate_policy(
            policy, drawing, parts, trained.params, trained.heads, study.task, problems
        )
        texts.append(found.texts)
        correct.append([grade.correct for grade in found.grades])
    different = [len(set(answers)) for answers in zip(*texts, strict=True)]
    return {
        "correct": float(np.mean(correct)),
        "solved": float(np.any(correct, axis=0).mean()),
        "different": float(np.mean(different)) / DRAWS,
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
