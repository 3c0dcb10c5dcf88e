"""What the study says: accuracy at equal budgets, paired differences, the table and the picture."""

import csv
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from ml_collections import FrozenConfigDict

import reoac_jax
from frontier.budgets import Point, at_budget, over_seeds, paired_difference, upper_hull
from frontier.grids import BIASED, CHECKED, IN_FIVE, LENGTHS, TOGETHER
from frontier.rows import Row, point, unpack
from reoac_jax.config import config_hash, to_json
from reoac_jax.system.files import replacing_file, write_json

FIELDS = (
    "subject", "seed", "family", "policy", "split", "problems", "accuracy", "low", "high", "passes",
    "passes_median", "passes_max", "cost", "padding_share", "tokens_computed", "seconds",
)  # fmt: skip


def frontiers(rows: Sequence[Row], subject: str, seed: int | None = None) -> dict[str, list[Point]]:
    """The points of each family on the test split."""
    found: dict[str, list[Point]] = {}
    for row in rows:
        if row["subject"] == subject and row["split"] == "test" and seed in (None, row["seed"]):
            found.setdefault(row["family"], []).append(point(row))
    return found


def at_budgets(rows: Sequence[Row], budgets: Sequence[float]) -> list[dict[str, Any]]:
    """For each budget the accuracy of every family on the backbone as it is, best first."""
    table = []
    for budget in budgets:
        reached = {
            family: result
            for family, points in frontiers(rows, "bundled").items()
            if (result := at_budget(points, budget)) is not None
        }
        best = sorted(reached, key=lambda family: -reached[family].mean())
        table.append(
            {
                "budget": budget,
                "families": {family: float(reached[family].mean()) for family in best},
            }
        )
    return table


def compared(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every trained actor at its own mean passes against the best of all else there.

    Where it has several seeds each of them stands alone too, at its own passes: seeds that take
    different numbers of passes are not one policy.
    """
    found = []
    actors = {row["subject"] for row in rows if row["family"] == "actor"}
    for subject in sorted(actors):
        mine = [
            r for r in rows if (r["subject"], r["split"], r["family"]) == (subject, "test", "actor")
        ]
        entry = {"subject": subject, "seeds": len(mine), **_against_the_best(rows, mine)}
        if len(mine) > 1:
            entry["over_seeds"] = over_seeds([row["accuracy"] for row in mine])
            entry["each_seed"] = [
                {"seed": row["seed"], **_against_the_best(rows, [row])} for row in mine
            ]
        biased = [
            r for r in rows if (r["subject"], r["split"], r["family"]) == (subject, "test", BIASED)
        ]
        if biased:
            entry["biased"] = [
                {"seed": row["seed"], "policy": row["policy"], **_against_the_best(rows, [row])}
                for row in biased
            ]
        found.append(entry)
    return found


def _against_the_best(rows: Sequence[Row], mine: Sequence[Row]) -> dict[str, Any]:
    """Some rows' mean against the others at their mean passes.

    The other side is the family that is best on the development split at these passes; beside it
    stand the one that is best on the test problems themselves, which favours it, the best mixture
    of any two rules there, each problem under one of them by chance, which favours it more, and
    what reads the task's notation, which the actors do not: in such mixtures and alone. Actor and
    backbone together are compared with mixtures of all that either reached alone, too.
    """
    budget = float(np.mean([row["passes"] for row in mine]))
    ours = np.mean([unpack(row) for row in mine], axis=0)
    others = frontiers(rows, "bundled")
    rival = best_family(rows, budget)
    theirs = None if rival is None else at_budget(others.get(rival, []), budget)
    checked = at_budget(others.get(CHECKED, []), budget)
    entry: dict[str, Any] = {"passes": budget, "accuracy": float(ours.mean())}
    if theirs is not None:
        entry |= {
            "rival": rival,
            "rival_accuracy": float(theirs.mean()),
            "paired_difference": paired_difference(ours, theirs),
        }
    at_these = {name: at_budget(points, budget) for name, points in others.items()}
    reached = {name: x for name, x in at_these.items() if x is not None and name != CHECKED}
    if reached:
        strongest = max(reached, key=lambda name: float(reached[name].mean()))
        entry |= {
            "strongest_on_test": strongest,
            "strongest_accuracy": float(reached[strongest].mean()),
            "paired_difference_to_strongest": paired_difference(ours, reached[strongest]),
        }
    plain = [x for name, points in others.items() if name != CHECKED for x in points]
    if (mixed := at_budget(plain, budget)) is not None:
        entry |= {
            "mixture_accuracy": float(mixed.mean()),
            "paired_difference_to_mixture": paired_difference(ours, mixed),
        }
    everything = [x for points in others.values() for x in points]
    if (mixed := at_budget(everything, budget)) is not None:
        entry |= {
            "mixture_with_checks_accuracy": float(mixed.mean()),
            "paired_difference_to_mixture_with_checks": paired_difference(ours, mixed),
        }
    if mine[0]["subject"] == TOGETHER:
        alone = [
            point(row)
            for row in rows
            if row["split"] == "test" and row["subject"] != TOGETHER and row["family"] != CHECKED
        ]
        if (mixed := at_budget(alone, budget)) is not None:
            entry |= {
                "either_alone_accuracy": float(mixed.mean()),
                "paired_difference_to_either_alone": paired_difference(ours, mixed),
            }
    if checked is not None:
        entry |= {
            "check_and_rewrite_accuracy": float(checked.mean()),
            "paired_difference_to_it": paired_difference(ours, checked),
        }
    return entry


def best_family(rows: Sequence[Row], budget: float) -> str | None:
    """The family that reaches most at the budget on the development split, without checks."""
    families: dict[str, list[Point]] = {}
    for row in rows:
        if (row["subject"], row["split"]) == ("bundled", "dev") and row["family"] != CHECKED:
            families.setdefault(row["family"], []).append(point(row))
    reached = {
        family: float(result.mean())
        for family, points in families.items()
        if (result := at_budget(points, budget)) is not None
    }
    return max(reached, key=lambda family: reached[family]) if reached else None


def backbones(rows: Sequence[Row], budgets: Sequence[float]) -> list[dict[str, Any]]:
    """Trained backbones against the one as it is, in the same orders, at equal budgets."""
    found = []
    for subject in ("control", "trajectory", IN_FIVE):
        seeds = sorted({row["seed"] for row in rows if row["subject"] == subject})
        for budget in budgets:
            for family in ("threshold", "entropy_bound", "prefix_threshold", "by_hand"):
                before = at_budget(frontiers(rows, "bundled").get(family, []), budget)
                after = [
                    result
                    for seed in seeds
                    if (result := at_budget(frontiers(rows, subject, seed).get(family, []), budget))
                    is not None
                ]
                if before is None or not after:
                    continue
                mean = np.mean(after, axis=0)
                found.append(
                    {
                        "subject": subject,
                        "family": family,
                        "budget": budget,
                        "seeds": len(after),
                        "accuracy": float(mean.mean()),
                        "before": float(before.mean()),
                        "paired_difference": paired_difference(mean, before),
                    }
                )
    return found


def write_results(
    rows: Sequence[Row], output: Path, config: FrozenConfigDict, command: str
) -> None:
    """The tables as JSON and CSV, and the picture."""
    budgets = LENGTHS[config.rollout.gen_len].budgets
    write_json(
        output.with_suffix(".json"),
        {
            "command": command,
            "config": to_json(config),
            "config_hash": config_hash(config),
            "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}",
            "versions": {"reoac-jax": reoac_jax.__version__, "jax": jax.__version__},
            "at_budgets": at_budgets(rows, budgets),
            "actors": compared(rows),
            "backbones": backbones(rows, budgets),
        },
    )
    with replacing_file(output.with_suffix(".csv")) as temporary, temporary.open("w") as file:
        writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    figure = draw(rows, budgets[len(budgets) // 2])
    with replacing_file(output.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    print(f"wrote {output}.json, .csv and .png")


def draw(rows: Sequence[Row], budget: float) -> plt.Figure:
    """Accuracy against mean passes on the test split: a line for each family's upper hull.

    Those that reach most at the budget, or in less, have colours.
    """
    figure, axis = plt.subplots(figsize=(10.5, 6.0), layout="constrained")
    families = frontiers(rows, "bundled")
    strongest = sorted(families, key=lambda name: -_height(families[name], budget))
    palette = plt.get_cmap("tab10").colors
    for index, family in enumerate(strongest):
        shown = index < len(palette)
        _line(
            axis, families[family], marker="o", linewidth=1.2, zorder=3 if shown else 2,
            color=palette[index] if shown else "0.8",
            label=family if shown else "other rules" if index == len(palette) else None,
        )  # fmt: skip
    for group, marker in (
        ("actor T7", "*"), ("actor T20", "P"), ("bold T20", "D"), ("positions", "X"),
        ("numbers first", "s"), (TOGETHER, "v"),
    ):  # fmt: skip
        own = [
            row
            for row in rows
            if row["family"] == "actor" and row["split"] == "test"
            and row["subject"].startswith(group) and not row["subject"].endswith("untrained")
        ]  # fmt: skip
        if own:
            axis.errorbar(
                [r["passes"] for r in own], [r["accuracy"] for r in own],
                yerr=[
                    [r["accuracy"] - r["low"] for r in own],
                    [r["high"] - r["accuracy"] for r in own],
                ],
                fmt=marker, color="black", markersize=8, capsize=2, zorder=6, label=group,
            )  # fmt: skip
    biased = [row for row in rows if (row["family"], row["split"]) == (BIASED, "test")]
    for subject, seed in sorted({(row["subject"], row["seed"]) for row in biased}):
        own = [row for row in biased if (row["subject"], row["seed"]) == (subject, seed)]
        line = sorted((row["passes"], row["accuracy"]) for row in own)
        axis.plot(*zip(*line, strict=True), color="black", linewidth=1.2, zorder=5)
    colours = {"control": "tab:gray", "trajectory": "tab:red", IN_FIVE: "tab:purple"}
    for subject, colour in colours.items():
        for seed in sorted({r["seed"] for r in rows if r["subject"] == subject}):
            found = frontiers(rows, subject, seed)
            for family, style in (("by_hand", "-"), ("threshold", ":")):
                _line(
                    axis, found.get(family, []), color=colour, linestyle=style, linewidth=2.2,
                    zorder=5, label=f"{subject}: {family}" if seed == 0 else None,
                )  # fmt: skip
    axis.set_xlim(0, 21)
    axis.set_xlabel("mean forward passes a problem")
    axis.set_ylabel("accuracy on unseen problems")
    axis.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axis.grid(alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    return figure


def _height(points: Sequence[Point], budget: float) -> float:
    reached = at_budget(points, budget)
    return -1.0 if reached is None else float(reached.mean())


def _line(axis: plt.Axes, points: Sequence[Point], **style: Any) -> None:
    hull = upper_hull(points)
    axis.plot([p.passes for p in hull], [p.accuracy for p in hull], markersize=3.5, **style)
