"""What each choice of the objective and of the observation is worth: one training run without it.

    python scripts/ablations.py --config configs/tiny.py --output benchmarks/ablations_tiny
    python scripts/ablations.py --of critic --config configs/tiny.py \\
        --output benchmarks/critic_tiny
    python scripts/ablations.py --of critic_alone --config configs/tiny_trajectory.py \\
        --output benchmarks/critic_alone_tiny
    python scripts/ablations.py --of advantage --config configs/tiny_trajectory.py \\
        --problems 4000 --output benchmarks/advantage_tiny
    python scripts/ablations.py --of trained --config configs/tiny_in_five.py \\
        --output benchmarks/critic_trained_tiny --config.backbone.path=checkpoints/tiny_in_five
    python scripts/ablations.py --of few_passes --config configs/tiny_few_passes.py --split dev \\
        --output benchmarks/ablations_few_passes --config.train.iterations=40
    python scripts/ablations.py --of gate --config configs/tiny_trajectory.py \\
        --output benchmarks/gate_tiny

Every variant changes the configuration in the way its line says, trains, and is evaluated greedily
on problems that are new to it: the actor itself, or the backbone in the order of its training. Each
row is written to OUTPUT.jsonl as soon as it is known, and a second call goes on where the first one
stopped; at the end OUTPUT.json holds all rows and the command, and the table is printed as
Markdown.
"""

import argparse
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import reoac_jax  # first: it says in one line what JAX refuses of the environment

# isort: split
import jax
from frontier.budgets import Interval, at_budget, paired_difference
from frontier.critics import explained_on
from frontier.grids import ACTORS, CHECKED, WRITERS
from frontier.measure import Study, studying, trained_run
from frontier.rows import Row, point, unpack

from reoac_jax.config import config_hash, parse_command_line, to_json
from reoac_jax.evaluation.policies import ACTOR
from reoac_jax.learning.parts import load_parts, load_trained, untrained
from reoac_jax.report.runs import read_metrics
from reoac_jax.runs.folder import CHECKPOINTS, METRICS
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_json

LEAD, LEAD_CHECKED = "lead", "lead over checks too"
UNSEEN = "explained variance, unseen problems"
LEADS = {"lead over the rules": LEAD, "and those with checks": LEAD_CHECKED}


class Variants(NamedTuple):
    """policies: that are evaluated, a row each. columns: what is kept of the first and the last
    iteration's metrics, and listed of the last. changes: the keys that a variant changes, by what
    that is in words. rules: that the backbone as it was is evaluated under; every row is compared
    with the best of them, and of mixtures of two, at its mean passes. checked: further ones, that
    read the task's notation; the row is compared with these among the rules, too. base: keys that
    are changed for all of them, rules included. unseen: what the critic explains of the problems
    that are evaluated is measured too, where the backbone has learned on those of the training."""

    policies: tuple[str, ...]
    columns: tuple[str, ...]
    changes: Mapping[str, Mapping[str, Any]]
    rules: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    base: Mapping[str, Any] = {}
    unseen: bool = False


# What the critic, and beside it the actor, knows of the text. Critics that see more have more to
# learn, and take more steps, on fewer transitions each.
_LONGER: Mapping[str, Any] = {
    "train.critic_steps": 64, "train.head_batch": 512, "train.buffer_size": 1152,
}  # fmt: skip
_COPY: Mapping[str, Any] = {
    "heads.critic": "backbone", "train.head_batch": 256, "optimizer.critic_rate": 3e-4,
}  # fmt: skip
# The value of the order in which the backbone is trained, from as many problems as can be had: one
# an episode, four iterations' episodes in the buffer.
_ALONE: Mapping[str, Any] = {
    **_LONGER, "backbone.finetune_mode": "frozen", "objective.actor": "soft_q",
    "train.episodes_per_iter": 1152, "train.episodes_per_prompt": 1, "train.buffer_size": 4608,
    "train.iterations": 16,
}  # fmt: skip
# Its value where the backbone has learned from its own denoising: two tokens a pass, from the left.
_OVER_TRAINED: Mapping[str, Any] = {
    **_ALONE, "rollout.max_steps": 6, "train.order": (), "operators.names": ("O_SCOPE",),
}  # fmt: skip
# The trained model's own confidence decides how much a step reveals: all above 0.7, one at least.
_GATED: Mapping[str, Any] = {
    "rollout.max_steps": 20, "train.order": ("O_FAST",) * 20, "train.backbone_steps": 5,
    "operators.O_FAST.scope_len": 20, "operators.O_FAST.step_scale": 1.0,
    "operators.O_FAST.threshold": 0.7, "train.iterations": 20,
}  # fmt: skip
_ACTOR_COLUMNS = ("explained_variance", "operator_shares")
_THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99)
_RULES = (
    *(f"threshold:threshold={t},block_len=0" for t in _THRESHOLDS),
    *(f"schedule:counts={c}" for c in ("1-1-1-1-1-2", "1-1-2-2-2", "2-2-2-2")),
)  # fmt: skip
_CHECKED = tuple(
    f"{CHECKED}:passes={passes},sampler={writer}"
    for writer in (WRITERS[-1], "schedule:counts=1-1-1-1-1-2")
    for passes in (8, 11, 14, 17, 21)
)
# Values of a row from which on it ends, or below which it is written again.
_ENDS = tuple(f"{ACTOR}:stop_value={v}" for v in (0.8, 0.9, 0.95))
_AGAIN = (
    *(f"{ACTOR}:remask_value=0.5,remask_share={s},passes=21" for s in (0.5, 1.0)),
    f"{ACTOR}:remask_value=0.5,passes=32",
)
# Rules that take more passes than the others: operators that reveal by confidence.
_LONG = (
    "O_NUM", "O_SCOPE", "O_SCOPE:threshold=0.9", "margin:steps=10,skip_eos=true",
    "klass:block_len=0,threshold=0.9,stable=0.01",
)  # fmt: skip
GROUPS = {
    "choices": Variants(
        (ACTOR,),
        _ACTOR_COLUMNS,
        {
            "as configured": {},
            "original objective: soft_q, temperature 1": {"objective.actor": "soft_q"},
            "soft_q, temperature 0.02": {
                "objective.actor": "soft_q", "objective.soft_q.temperature": 0.02,
            },
            "advantage by the critic (GAE, lambda 0.9)": {"objective.advantage": "critic"},
            "no entropy bonus": {"objective.policy_gradient.entropy_weight": 0.0},
            "entropy weight 0.03": {"objective.policy_gradient.entropy_weight": 0.03},
            "4 episodes a prompt instead of 12": {"train.episodes_per_prompt": 4},
            "shaped reward": {"reward.mode": "shaped"},
            "relation temperature 0.1": {"features.relation_temperature": 0.1},
            "without progress and confidence": {"features.extra_features": False},
            "without the operators' preview": {"features.operator_preview": False},
            "11 features alone": {
                "features.extra_features": False, "features.operator_preview": False,
            },
            "with the pooled hidden state": {"features.use_hidden": True},
            "O_SCOPE a window of 2 positions": {"operators.O_SCOPE.scope_len": 2},
            "rows of 13: the answer's length is known": {"rollout.gen_len": 13},
        },
    ),
    "critic": Variants(
        (ACTOR, *_ENDS),
        ("explained_variance", "explained_variance_by_step", "critic_loss"),
        {
            "features": _LONGER,
            "features and notation": {**_LONGER, "features.notation": True},
            "a copy of the backbone, all weights": {
                **_LONGER, **_COPY, "train.critic_steps": 32,
            },
            "features and notation, advantages by the critic (GAE)": {
                **_LONGER, "features.notation": True, "objective.advantage": "critic",
            },
        },
        _RULES,
    ),
    "value": Variants(
        (
            ACTOR,
            *_ENDS,
            *_AGAIN,
            f"{ACTOR}:stop_value=0.95,remask_value=0.5,passes=21",
        ),
        ("explained_variance", "explained_variance_by_step", "critic_loss"),
        {
            "features and notation": {**_LONGER, "features.notation": True},
            "features": _LONGER,
        },
        (*_RULES, *_LONG),
        _CHECKED,
        ACTORS["bold T20 0.03"],
    ),
    "critic_alone": Variants(
        (),
        ("explained_variance", "explained_variance_by_step", "critic_loss", "accuracy"),
        {
            "features": _ALONE,
            "features and notation": {**_ALONE, "features.notation": True},
            "a copy of the backbone, all weights": {**_ALONE, **_COPY},
            "rows": {**_ALONE, "heads.reads": "rows"},
            "features and the pooled hidden state": {**_ALONE, "features.use_hidden": True},
            "features, notation and the pooled hidden state": {
                **_ALONE, "features.notation": True, "features.use_hidden": True,
            },
        },
    ),
    "trained": Variants(
        (ACTOR, *(f"{ACTOR}:remask_value=0.5,passes={passes}" for passes in (12, 18, 24))),
        ("explained_variance_by_step", "critic_loss", "accuracy"),
        {
            "features": {},
            "features and notation": {"features.notation": True},
            "features, notation and the pooled hidden state": {
                "features.notation": True, "features.use_hidden": True,
            },
        },
        (
            *_RULES[-3:], "threshold:threshold=0.9,block_len=0",
            *(f"schedule:counts={c}" for c in ("4-4", "3-3-3", "2-2-4", "1-2-2-2-2")),
        ),
        tuple(
            f"{CHECKED}:passes={passes},sampler=schedule:counts=2-2-2-2"
            for passes in (5, 10, 15, 20, 25)
        ),
        _OVER_TRAINED,
        unseen=True,
    ),
    "advantage": Variants(
        ("schedule:counts=1-1-1-1-1-2",),
        ("accuracy", "explained_variance", "explained_variance_by_step", "backbone_entropy"),
        {
            "relative to the prompt's other episodes": {},
            "by a critic of features and notation (GAE)": {
                "objective.advantage": "critic", "features.notation": True,
                "train.critic_steps": 32, "train.head_batch": 512,
            },
        },
    ),
    "few_passes": Variants(
        ("schedule:counts=4-4",),
        ("accuracy", "backbone_entropy", "backbone_confidence"),
        {
            "as configured": {},
            "entropy weight 0.01": {"objective.trajectory.entropy_weight": 0.01},
            "one scale of advantages an iteration": {"objective.advantage_scale": "iteration"},
            "a constant rate": {"optimizer.backbone_final_rate": 1.0},
            "16 episodes a prompt instead of 8": {"train.episodes_per_prompt": 16},
            "KL weight 0.01": {"objective.trajectory.kl_weight": 0.01},
        },
    ),
    "gate": Variants(
        ("threshold:threshold=0.7,block_len=0", "schedule:counts=1-1-1-1-1-2"),
        ("accuracy", "forward_passes", "backbone_confidence", "backbone_entropy"),
        {
            "its own gate": _GATED,
            "and KL weight 0.03": {**_GATED, "objective.trajectory.kl_weight": 0.03},
            "and KL weight 0.1": {**_GATED, "objective.trajectory.kl_weight": 0.1},
            "and entropy weight 0.01": {**_GATED, "objective.trajectory.entropy_weight": 0.01},
            "and entropy weight 0.03": {**_GATED, "objective.trajectory.entropy_weight": 0.03},
            "a fixed order": {"train.iterations": 20},
        },
        _RULES,
    ),
}  # fmt: skip


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="path without an ending")
    parser.add_argument(
        "--problems", type=int, default=1000, dest="test", metavar="N", help="evaluated"
    )
    parser.add_argument(
        "--of", choices=GROUPS, default="choices", help="which variants (default: %(default)s)"
    )
    parser.add_argument(
        "--split", choices=("dev", "test"), default="test", help="dev: where one is chosen by it"
    )
    options, overrides = parse_command_line(parser, argv)
    options.dev = options.test
    policies, columns, variants, rules, checked, base, unseen = GROUPS[options.of]
    rows = []
    with studying(options, overrides) as study:
        before = as_it_was(study, rules, base)
        beside = as_it_was(study, checked, base)
        for number, (words, changes) in enumerate(variants.items()):
            changes = {**base, **changes}
            own = study.config(**changes)
            run = trained_run(study, str(number), options.config, own, changes)
            parts = load_parts(own)
            trained = load_trained(run / CHECKPOINTS, parts)
            lines = read_metrics(run / METRICS)[0]
            ends = {"first": lines[0], "trained": lines[-1]}
            metrics = {f"{end} {key}": line[key] for end, line in ends.items() for key in columns}
            if unseen:
                explained = explained_on(study, options.split, own, parts, trained)
                metrics |= {UNSEEN: explained.overall, f"{UNSEEN} by step": explained.by_step}
            if not policies:  # of interest is what it learned
                rows.append({"subject": words} | metrics)
            for policy in policies:
                row = study.row(words, own.seed, policy, policy, options.split, own, parts, trained)
                leads = {LEAD: compared(row, before)}
                if beside:
                    leads[LEAD_CHECKED] = compared(row, [*before, *beside])
                found = {key: lead for key, lead in leads.items() if lead is not None}
                rows.append(row | metrics | found)
            study.forget_programs()
    config = study.config()
    write_json(
        options.output.with_suffix(".json"),
        {
            "command": shlex.join(["python", "scripts/ablations.py", *argv]),
            "config": to_json(config),
            "config_hash": config_hash(config),
            "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}",
            "versions": {"reoac-jax": reoac_jax.__version__, "jax": jax.__version__},
            "as it was": [*before, *beside],
            "rows": rows,
        },
    )
    print_table(rows, policies, columns)
    return 0


def as_it_was(study: Study, rules: Sequence[str], base: Mapping[str, Any]) -> list[Row]:
    """The backbone before any training under these policies."""
    if not rules:
        return []
    config = study.config(**base)
    parts = load_parts(config)
    start, split = untrained(config, parts), study.options.split
    return [
        study.row("as it was", config.seed, rule, rule, split, config, parts, start)
        for rule in rules
    ]


def compared(row: Row, before: Sequence[Row]) -> Interval | None:
    """A row's lead over the backbone as it was, paired over problems; None where that takes more
    passes in every rule."""
    theirs = at_budget([point(other) for other in before], row["passes"])
    return None if theirs is None else paired_difference(unpack(row), theirs)


def print_table(
    rows: Sequence[Mapping[str, Any]],
    policies: Sequence[str],
    columns: Sequence[str],
) -> None:
    """As Markdown. columns: of the metrics."""
    named = {
        "variant": lambda row: row["subject"],
        "policy": lambda row: row["policy"],
        "accuracy": lambda row: f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})",
        "passes": lambda row: f"{row['passes']:.2f}",
    }
    for title, key in LEADS.items():
        if any(key in row for row in rows):
            named[title] = lambda row, key=key: _in_points(row.get(key))
    if any(UNSEEN in row for row in rows):
        named[UNSEEN] = lambda row: in_words(row[f"{UNSEEN} by step"])
    if len(policies) < 2:
        del named["policy"]
    if not policies:
        del named["accuracy"], named["passes"]
    print(f"| {' | '.join([*named, *columns])} |")
    print("|---" * (len(named) + len(columns)) + "|")
    for row in rows:
        cells = [words(row) for words in named.values()]
        cells += [in_words(row[f"trained {key}"]) for key in columns]
        print(f"| {' | '.join(cells)} |")


def _in_points(lead: Sequence[float] | None) -> str:
    if lead is None:
        return ""
    mean, low, high = (100 * x for x in lead)
    return f"{mean:+.1f} ({low:.1f} to {high:.1f})"


def in_words(value: float | Sequence[float] | Mapping[str, float]) -> str:
    """A number, one of each step, or the larger ones of the operators' shares."""
    if isinstance(value, Sequence):
        return ", ".join(f"{number:.2f}" for number in value)
    if not isinstance(value, Mapping):
        return f"{value:.3f}"
    shares = sorted(value.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.05)


if __name__ == "__main__":
    sys.exit(run_command(main))
