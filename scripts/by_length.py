"""How far rules get that know how long each answer is, against what a study has trained.

    python scripts/by_length.py --config configs/mixed.py --output benchmarks/by_length_mixed \\
        --room benchmarks/room_mixed.json --against benchmarks/frontier_mixed.jsonl \\
        benchmarks/few_passes_mixed.jsonl benchmarks/share_mixed.jsonl

Where answers differ in length a rule for each of them spends the passes where they are worth most.
The rules of the study, schedules by hand for each length, operators alone, numbers first and then
the rest at once, and fixed sequences of operators that are searched on development problems of one
length, where a pass is charged, are measured on the test problems; with `--room` the sequence, too,
that `room.py` found for all of them together.

Against them stand the studies' trained actors, and of each trained backbone what no mixture of its
other orders beats. For the mean passes of each, two are taken, both chosen on the test problems
themselves: the best mixture of two of all rules, those of the studies over the backbone as it was
among them; and the best division, for each length the best mixture of two of the rules measured
here, so that the mean over all lengths takes no more passes. The lengths are those of the reference
answers.

OUTPUT.jsonl holds the rows, and a second call goes on where the first one stopped; OUTPUT.json the
comparison.
"""

import argparse
import itertools
import json
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import reoac_jax  # first: it says in one line what JAX refuses of the environment

# isort: split
import jax
import numpy as np
from frontier.backbones import START, TRAINED
from frontier.budgets import Point, at_budget, divided, paired_difference, upper_hull
from frontier.grids import BOLD, SEARCHED
from frontier.measure import Study, answer_length, studying
from frontier.rows import Row, pack, point, rows_of, unpack
from ml_collections import FrozenConfigDict
from sequence_search import search_sequence

from reoac_jax.config import config_hash, parse_command_line, to_json
from reoac_jax.evaluation.policies import ACTOR
from reoac_jax.evaluation.scoring import evaluate_policy
from reoac_jax.learning.parts import load_parts, untrained
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import write_json
from reoac_jax.tasks import Problem
from reoac_jax.tasks.problem_set import ProblemSet

ADAPTIVE = (
    "dilated:block_len=0",
    *(f"threshold:block_len=0,threshold={t}" for t in (0.5, 0.7, 0.8, 0.9, 0.95)),
    *(f"entropy_bound:block_len=0,gamma={g}" for g in (1.0, 0.5, 0.2, 0.02)),
    *(f"prefix_threshold:threshold={t}" for t in (0.7, 0.9, 0.97)),
    *(f"factor:block_len=0,factor={f}" for f in (1.0, 0.5, 0.1)),
)
OPERATORS = ("O_NUM:threshold=0.7", "O_NUM:threshold=0.9", "O_SCOPE:threshold=0.8")
NUMBERS = (  # so many a pass, and all above a confidence
    *(f"O_NUM:step_scale=1.0,threshold={t}" for t in (1.0, 0.95, 0.9, 0.8)),
    "O_NUM:step_scale=2.0,threshold=1.0",
)
NUMBERS_FIRST = {  # where no number is left to write, all the rest is
    "rollout.empty_operator": "fallback",
    "rollout.fallback_operator": "O_FAST",
    "operators.O_FAST.threshold": 0.0,
}
AT_ONCE = (2, 3, 4, 5, 6)  # tokens a pass of the schedules by hand
ROUNDS = ((60, 128), (24, 256), (8, 512))  # of the searches: sequences and problems
CHARGE = 0.05  # of a pass in them, off the share of right answers


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="path without an ending")
    parser.add_argument(
        "--against", type=Path, nargs="+", required=True, help="the .jsonl of studies"
    )
    parser.add_argument(
        "--room", type=Path, help="room.py's .json, whose sequence is measured, too"
    )
    parser.add_argument("--dev", type=int, default=1500, help="development problems, of searches")
    parser.add_argument("--test", type=int, default=4000, help="test problems")
    options, overrides = parse_command_line(parser, argv)
    with studying(options, overrides) as study:
        rows = [row for path in options.against for row in rows_of(path, "--against", options.test)]
        trained = trained_of(rows)
        sequences = [sequence_of(options.room)] if options.room else []
        parts = load_parts(study.config())
        problems = ProblemSet.load(
            study.task, "test", parts.tokenizer, study.config(), options.test
        )
        lengths = np.array([answer_length(study, parts, problem) for problem in problems.problems])
        measure(study, problems, lengths, sequences)
    write_json(
        options.output.with_suffix(".json"),
        {
            "command": shlex.join(["python", "scripts/by_length.py", *argv]),
            "versions": {"reoac_jax": reoac_jax.__version__, "jax": jax.__version__},
            "platform": platform.machine(),
            "config": to_json(study.config()),
            "problems": {str(n): int((lengths == n).sum()) for n in np.unique(lengths)},
            "trained": [
                against(row, study.rows.all, untrained_of(rows), lengths) for row in trained
            ],
        },
    )
    return 0


def trained_of(rows: Sequence[Row]) -> list[Row]:
    """The studies' trained actors, and of each trained backbone its upper hull. Raises
    `InputError`."""
    found = [row for row in rows if row["policy"].startswith(ACTOR) and _is_trained(row)]
    for key in sorted({_of(row) for row in rows if row["subject"] in TRAINED}):
        own = {row["policy"]: row for row in rows if _of(row) == key}
        found += [own[best.name] for best in upper_hull([point(row) for row in own.values()])]
    if not found:
        raise InputError("--against has neither an actor nor a trained backbone; expected one")
    return found


def _of(row: Row) -> tuple[str, int]:
    return row["subject"], row["seed"]


def _is_trained(row: Row) -> bool:
    return "untrained" not in row["subject"]


def untrained_of(rows: Sequence[Row]) -> list[Row]:
    """The studies' rules over the backbone as it was, less those that check their answers: they
    read the task's notation, which nothing trained here does."""
    return [
        row
        for row in rows
        if row["subject"] in ("bundled", START)
        and not row["policy"].startswith((ACTOR, "check_and_rewrite"))
    ]


def sequence_of(path: Path) -> str:
    """The policy of the sequence in a result of `room.py`. Raises `InputError`."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sequences"]["all"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"--room {path}: {error}; expected the .json of room.py") from None


def by_hand(lengths: Sequence[int]) -> Iterator[str]:
    """Left to right, so many a pass, the last pass all that is left of a row: for each length."""
    for length, count in itertools.product(lengths, AT_ONCE):
        passes = -(-(length + 1) // count)  # an end behind the answer
        yield f"schedule:counts={'-'.join([str(count)] * (passes - 1))}"


def measure(
    study: Study, problems: ProblemSet, lengths: np.ndarray, sequences: Sequence[str]
) -> None:
    """All rules on the test problems, and these sequences of the configuration's own operators."""
    kinds = np.unique(lengths).tolist()
    config = study.config()
    for policy in (*ADAPTIVE, *dict.fromkeys(by_hand(kinds)), *sequences):
        row_of(study, policy, config, problems, lengths)
    study.forget_programs()
    whole = {"rollout.max_steps": config.rollout.gen_len, **BOLD}
    bolder, _ = SEARCHED["bold sequence, charged"]
    searched = study.config(**{**whole, **bolder})
    for kind in kinds:
        family = f"sequence for {kind}, {CHARGE} a pass"
        policy = found(study, family, kind, searched)
        row_of(study, policy, searched, problems, lengths, family)
        study.forget_programs()
    bold = study.config(**whole)
    for policy in OPERATORS:
        row_of(study, policy, bold, problems, lengths)
    study.forget_programs()
    numbers_first = study.config(**{**whole, **NUMBERS_FIRST})
    for policy in NUMBERS:
        row_of(study, policy, numbers_first, problems, lengths, "numbers first, the rest at once")
    study.forget_programs()


def found(study: Study, family: str, length: int, config: FrozenConfigDict) -> str:
    """The best sequence for development problems of a length, of an earlier search or a new one."""
    done = [row["policy"] for row in study.rows.all if row["family"] == family]
    if done:
        return str(done[0])
    parts = load_parts(config)

    def wanted(problem: Problem) -> bool:
        return answer_length(study, parts, problem) == length

    best = search_sequence(config, parts, study.task, 0, wanted, ROUNDS, CHARGE)
    print(f"{family}: best of {best.tried} sequences {best.accuracy:.1%}", flush=True)
    return best.policy


def row_of(
    study: Study,
    policy: str,
    config: FrozenConfigDict,
    problems: ProblemSet,
    lengths: np.ndarray,
    family: str = "rule",
) -> Row:
    """A policy on the test problems: what it solves, and its mean passes on those of a length."""
    parts = load_parts(config)
    key = {
        "subject": "bundled", "seed": 0, "family": family, "policy": policy, "split": "test",
        "problems": len(lengths), "config_hash": config_hash(config),
        "backbone_hash": parts.base_hash,
    }  # fmt: skip

    def measure_now() -> dict[str, Any]:
        start = untrained(config, parts)
        runner = study.policy(policy, config, parts)
        result = evaluate_policy(
            runner, config, parts, start.params, start.heads, study.task, problems
        )
        passes = result.outcome.forward_passes
        correct = np.array([grade.correct for grade in result.grades])
        return {
            "accuracy": float(correct.mean()),
            "passes": float(passes.mean()),
            "by_length": {
                str(n): {
                    "accuracy": float(correct[lengths == n].mean()),
                    "passes": float(passes[lengths == n].mean()),
                }
                for n in np.unique(lengths)
            },
            "correct": pack(correct),
        }

    return study.rows.measured(key, measure_now)


def against(
    trained: Row, rows: Sequence[Row], others: Sequence[Row], lengths: np.ndarray
) -> dict[str, Any]:
    """A trained row against the best mixture and the best division at its mean passes.

    others: rules that are in mixtures, too; what they take for each length is not known.
    """
    kinds = np.unique(lengths)
    points = [
        [
            Point(r["policy"], r["by_length"][str(n)]["passes"], unpack(r)[lengths == n])
            for r in rows
        ]
        for n in kinds
    ]
    ours = unpack(trained)
    entry: dict[str, Any] = {
        **{name: trained[name] for name in ("subject", "seed", "policy", "passes", "accuracy")},
        "accuracy_by_length": {str(n): float(ours[lengths == n].mean()) for n in kinds},
    }
    mixed = at_budget([point(row) for row in (*rows, *others)], trained["passes"])
    if mixed is not None:
        entry["mixture_accuracy"] = float(mixed.mean())
        entry["lead_over_mixture"] = paired_difference(ours, mixed)._asdict()
    shares = [float((lengths == n).mean()) for n in kinds]
    if (best := divided(points, shares, trained["passes"])) is None:
        return entry
    theirs = np.zeros(len(lengths))
    for n, part in zip(kinds, best, strict=True):
        theirs[lengths == n] = part.correct
    return entry | {
        "division_accuracy": float(theirs.mean()),
        "division": {
            str(n): {"policies": part.name, "passes": part.passes, "accuracy": part.accuracy}
            for n, part in zip(kinds, best, strict=True)
        },
        "lead_over_division": paired_difference(ours, theirs)._asdict(),
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
