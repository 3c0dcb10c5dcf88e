"""The table at the end: what was measured, beside what is published."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from frontier.budgets import Interval, Point, at_budget, over_seeds, paired_difference

from gsm8k_stages.points import read_points
from gsm8k_stages.sizes import Size
from reoac_jax.evaluation.intervals import wilson_interval
from reoac_jax.system.files import write_json, write_text

_FOX = "Fox et al., arXiv 2602.23968"
_GONG = "Gong et al., arXiv 2410.17891"


class Published(NamedTuple):
    """A number of a paper: what, mean passes (None: not said, or one a token), accuracy, source."""

    what: str
    passes: float | None
    accuracy: float
    source: str


# GSM8K, test, fine-tuned models of this size.
PUBLISHED = (
    Published("170M, learned order", 4.0, 0.331, _FOX),
    Published("170M, random order", 4.0, 0.290, _FOX),
    Published("170M, margin", 4.0, 0.240, _FOX),
    Published("170M, confidence", 4.0, 0.237, _FOX),
    Published("170M, learned order, at most 10", 9.6, 0.378, _FOX),
    Published("170M, margin", 10.0, 0.395, _FOX),
    Published("170M, learned order, at most 12", 9.4, 0.390, _FOX),
    Published("170M, margin", 12.0, 0.423, _FOX),
    Published("SEDD-S, 170M, augmented data", None, 0.453, _GONG),
    Published("DiffuGPT-S, 127M, augmented data", None, 0.502, _GONG),
    Published("GPT-2 small, autoregressive, augmented data", None, 0.448, _GONG),
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One line: accuracy with its 95 % interval.

    seeds: of training; 0: nothing was trained here but the fine-tuning. difference: to the best
    rule on the same backbone and at the same mean passes; None: this is that rule.
    """

    what: str
    passes: float
    accuracy: Interval
    problems: int
    seeds: int
    difference: Interval | None = None


def measured(size: Size, folder: Path) -> Iterator[Measured]:
    """The lines of what the stages have left in `folder`."""
    dev = _families(folder / "dev.jsonl")
    tuned = _families(folder / "test.jsonl")
    for budget in size.budgets:
        if (rule := _best(dev, tuned, budget)) is not None:
            found = _at(tuned, rule, budget)
            yield _line(f"fine-tuned, {rule}", budget, [found])
    trained = [_families(folder / f"test-{seed}.jsonl") for seed in range(size.seeds)]
    for budget in size.budgets:
        rule = _best(dev, tuned, budget)
        reached = [at_budget(families.get(rule or "", []), budget) for families in trained]
        there = [result for result in reached if result is not None]
        if rule is not None and len(there) == size.seeds:
            before = _at(tuned, rule, budget)
            difference = paired_difference(np.mean(there, axis=0), before)
            what = f"trained over its own denoising, {rule} (difference: to the fine-tuned one)"
            yield dataclasses.replace(_line(what, budget, there), difference=difference)
    for steps in size.actor_steps:
        yield _actor_line(size, folder, steps, dev, trained)


def _actor_line(
    size: Size,
    folder: Path,
    steps: int,
    dev: Mapping[str, Sequence[Point]],
    trained: Sequence[Mapping[str, Sequence[Point]]],
) -> Measured:
    scores = [
        json.loads((folder / f"eval-{steps}-{s}.json").read_text()) for s in range(size.seeds)
    ]
    correct = [_answers(folder / f"eval-{steps}-{seed}.jsonl") for seed in range(size.seeds)]
    passes = float(np.mean([score["forward_passes"] for score in scores]))
    line = _line(f"the same, trained actor of {steps} steps", passes, correct)
    rule = _best(dev, trained[0], passes)
    theirs = [at_budget(families.get(rule or "", []), passes) for families in trained]
    there = [result for result in theirs if result is not None]
    if len(there) < size.seeds:
        return line
    difference = paired_difference(np.mean(correct, axis=0), np.mean(there, axis=0))
    what = f"{line.what} (difference: to {rule})"
    return dataclasses.replace(line, what=what, difference=difference)


def _line(what: str, passes: float, correct: Sequence[np.ndarray]) -> Measured:
    """correct: float `[N]` of each seed. Over several seeds Student's interval, else Wilson's."""
    means, problems = [float(np.mean(one)) for one in correct], len(correct[0])
    if len(means) > 1:
        interval = over_seeds(means)
    else:
        low, high = wilson_interval(round(means[0] * problems), problems)
        interval = Interval(means[0], low, high)
    return Measured(what, passes, interval, problems, len(means))


def _families(path: Path) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for family, point in read_points(path):
        found.setdefault(family, []).append(point)
    return found


def _best(
    dev: Mapping[str, Sequence[Point]], test: Mapping[str, Sequence[Point]], budget: float
) -> str | None:
    """The rule that reaches most at a budget on the development split; None: none gets there."""
    reached = {
        name: float(result.mean())
        for name, points in dev.items()
        if (result := at_budget(points, budget)) is not None
        and at_budget(test.get(name, []), budget) is not None
    }
    return max(reached, key=lambda name: reached[name]) if reached else None


def _at(families: Mapping[str, Sequence[Point]], rule: str, budget: float) -> np.ndarray:
    result = at_budget(families[rule], budget)
    assert result is not None, (rule, budget)  # `_best` has looked
    return result


def _answers(path: Path) -> np.ndarray:
    lines = path.read_text(encoding="utf-8").splitlines()
    return np.array([json.loads(line)["correct"] for line in lines], np.float64)


def write_table(size: Size, folder: Path) -> str:
    """Writes table.md and table.json into `folder`; returns the former."""
    lines = list(measured(size, folder))
    rows = ["| what | mean passes | accuracy (95 %) | difference | source |"]
    rows.append("|---|---|---|---|---|")
    for line in lines:
        seeds = f"{line.seeds} seeds" if line.seeds > 1 else "1 seed"
        rows.append(
            f"| {line.what} | {line.passes:.2f} | {_percent(line.accuracy)} | "
            f"{_points(line.difference)} | here, {line.problems} problems, {seeds} |"
        )
    for row in PUBLISHED:
        passes = "" if row.passes is None else f"{row.passes:.1f}"
        rows.append(f"| {row.what} | {passes} | {row.accuracy:.1%} | | {row.source} |")
    table = "\n".join(rows) + "\n"
    values: dict[str, Any] = {
        "size": size.name,
        "measured": [dataclasses.asdict(line) for line in lines],
        "published": [row._asdict() for row in PUBLISHED],
    }
    write_json(folder / "table.json", values)
    write_text(folder / "table.md", table)
    return table


def _percent(value: Interval) -> str:
    return f"{value.mean:.1%} ({value.low:.1%} to {value.high:.1%})"


def _points(value: Interval | None) -> str:
    if value is None:
        return ""
    mean, low, high = (100 * part for part in value)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"
