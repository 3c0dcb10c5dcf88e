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
from typing import Any

import reoac_jax  # first: it says in one line what JAX refuses of the environment

# isort: split
import jax
from frontier.budgets import Interval, at_budget, paired_difference
from frontier.critics import explained_on
from frontier.measure import Study, studying, trained_run
from frontier.rows import Row, point, unpack
from frontier.variants import GROUPS

from reoac_jax.config import config_hash, parse_command_line, to_json
from reoac_jax.learning.parts import load_parts, load_trained, untrained
from reoac_jax.report.runs import read_metrics
from reoac_jax.runs.folder import CHECKPOINTS, METRICS
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_json

LEAD, LEAD_CHECKED = "lead", "lead over checks too"
UNSEEN = "explained variance, unseen problems"
LEADS = {"lead over the rules": LEAD, "and those with checks": LEAD_CHECKED}


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
