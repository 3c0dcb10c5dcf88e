"""What `few_passes.py` says of its backbones: the table at budgets, the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter

from frontier.budgets import Point, at_budget, over_seeds, paired_difference, upper_hull
from frontier.rows import Row, point, unpack

START, CONTROL, FULL, LORA = SUBJECTS = ("start", "control", "full", "lora")
TRAINED = (FULL, LORA)


def at(rows: Sequence[Row], budget: float) -> dict[str, Any]:
    """Each backbone at a budget of mean passes, mean over its seeds, and the lead of those trained.

    Leads are paired over problems; `seeds` has each run's accuracy.
    """
    points: dict[tuple[str, int], list[Point]] = {}
    for row in rows:
        if row["split"] == "test":
            points.setdefault((row["subject"], row["seed"]), []).append(point(row))
    reached: dict[str, list[np.ndarray]] = {}
    for (subject, _), measured in sorted(points.items()):
        if (found := at_budget(measured, budget)) is not None:
            reached.setdefault(subject, []).append(found)
    means = {subject: np.mean(found, axis=0) for subject, found in reached.items()}
    seeds = {subject: [float(x.mean()) for x in found] for subject, found in reached.items()}
    table: dict[str, Any] = {
        "budget": budget,
        "accuracy": {
            subject: float(means[subject].mean()) for subject in SUBJECTS if subject in means
        },
        "seeds": seeds,
    }
    for ours in TRAINED:
        if len(seeds.get(ours, ())) > 1:
            table[f"{ours}, over seeds"] = over_seeds(seeds[ours])._asdict()
        for theirs in (START, CONTROL):
            if ours in means and theirs in means:
                lead = paired_difference(means[ours], means[theirs])
                table[f"{ours} - {theirs}"] = lead._asdict()
    return table


def in_order(rows: Sequence[Row], order: str) -> dict[str, Any]:
    """The order of training: on the test split, and of the last checkpoints on the other one."""
    table: dict[str, Any] = {}
    for row in rows:
        if row["policy"] == order:
            name = f"{row['subject']}, seed {row['seed']}"
            table.setdefault(row["split"], {})[name] = float(unpack(row).mean())
    return table


def draw(rows: Sequence[Row]) -> plt.Figure:
    """Accuracy against mean passes on the test split: the upper hull of each backbone."""
    figure, axis = plt.subplots(figsize=(8.0, 5.0), layout="constrained")
    labels = {START: "as it is", CONTROL: "fine-tuned further", FULL: "trained", LORA: "overlay"}
    for colour, subject in zip(plt.get_cmap("tab10").colors, SUBJECTS, strict=False):
        own = [row for row in rows if row["subject"] == subject and row["split"] == "test"]
        for seed in sorted({row["seed"] for row in own}):
            hull = upper_hull([point(row) for row in own if row["seed"] == seed])
            axis.plot(
                [p.passes for p in hull], [p.accuracy for p in hull], marker="o", markersize=4,
                color=colour, label=labels[subject] if seed == 0 else None,
            )  # fmt: skip
    axis.set_xlabel("mean forward passes a problem")
    axis.set_ylabel("accuracy on unseen problems")
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_ylim(bottom=0)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right")
    return figure


def show(result: Mapping[str, Any]) -> None:
    print("| passes | " + " | ".join(SUBJECTS) + " |")
    for row in result["at_budgets"]:
        shares = [row["accuracy"].get(name) for name in SUBJECTS]
        cells = ["" if x is None else f"{x:.1%}" for x in shares]
        print(f"| {row['budget']:g} | " + " | ".join(cells) + " |")
