"""Pictures of which operators act: over the training, and over the steps of an episode."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reoac_jax.report.picture import Picture, Table, new_figure
from reoac_jax.report.runs import Run, all_operators
from reoac_jax.report.theme import LIGHT, operator_colours

_LAST_SHARE = 5  # by step: over the last 5th of the iterations


def shares_by_iteration(runs: Sequence[Run]) -> Picture:
    name, title = "operator_shares_by_iteration", "Operators by iteration"
    operators = all_operators(runs)
    colours = operator_colours(operators)
    columns = ("run", "iteration", *operators)
    rows = [
        (run.label, line["iteration"], *(line["operator_shares"].get(op, 0.0) for op in operators))
        for run in runs
        for line in run.metrics
        if line.get("operator_shares")
    ]
    shown = [run for run in runs if any(row[0] == run.label for row in rows)]
    if not shown:
        why = "No line of metrics.jsonl holds operator_shares."
        return Picture.absent(name, title, why, columns)
    figure, all_axes = new_figure(*_grid(len(shown)), width=5.0, height=2.6)
    for axes, run in zip(all_axes, shown, strict=False):
        own = np.array([row[1:] for row in rows if row[0] == run.label], float)
        # Half an iteration on either side, so that a single one has a width too.
        edges = np.append(own[:, 0] - 0.5, own[-1, 0] + 0.5)
        below = np.zeros(len(own))
        for operator, shares in zip(operators, own[:, 1:].T, strict=True):
            axes.stairs(
                below + shares, edges, baseline=below, fill=True, label=operator,
                color=colours[operator],
            )  # fmt: skip
            below = below + shares
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("iteration")
        axes.xaxis.get_major_locator().set_params(integer=True)
    _finish(figure, all_axes, shown)
    caption = "Share of all steps of an iteration that each operator was charged for."
    return Picture(name, title, caption, figure, Table(columns, rows))


def shares_by_step(runs: Sequence[Run]) -> Picture:
    name, title = "operator_shares_by_step", "Operators by denoising step"
    operators = all_operators(runs)
    colours = operator_colours(operators)
    columns = ("run", "iteration", "step", *operators)
    rows = [
        (run.label, line["iteration"], step, *counts)
        for run in runs
        for line in run.metrics
        if line.get("operators_by_step")
        for step, counts in enumerate(_by_step(line["operators_by_step"], operators), start=1)
    ]
    shown = [run for run in runs if any(row[0] == run.label for row in rows)]
    if not shown:
        why = "No line of metrics.jsonl holds operators_by_step."
        return Picture.absent(name, title, why, columns)
    figure, all_axes = new_figure(*_grid(len(shown)), width=5.0, height=2.6)
    for axes, run in zip(all_axes, shown, strict=False):
        own = np.array([row[1:] for row in rows if row[0] == run.label], float)
        iterations = np.unique(own[:, 0])
        first = iterations[-max(len(iterations) // _LAST_SHARE, 1)]
        own = own[own[:, 0] >= first]
        steps = np.unique(own[:, 1])
        counts = np.stack([own[own[:, 1] == step, 2:].sum(axis=0) for step in steps])
        totals = counts.sum(axis=1, keepdims=True)
        shares = counts / np.maximum(totals, 1)
        below = np.zeros(len(steps))
        for operator, share in zip(operators, shares.T, strict=True):
            axes.bar(steps, share, 0.92, bottom=below, label=operator, color=colours[operator])
            below = below + share
        axes.plot(
            steps, totals[:, 0] / max(totals.max(), 1), color=LIGHT["ink"], linewidth=1.2,
            marker="o" if len(steps) <= 16 else "", markersize=3, label="episodes still going",
        )  # fmt: skip
        axes.set_xlabel("denoising step")
        axes.xaxis.get_major_locator().set_params(integer=True)
    _finish(figure, all_axes, shown)
    caption = (
        "Of the episodes that were still going at a step, the share at which each operator acted, "
        f"over the last {_LAST_SHARE}th of the iterations; the CSV file has the counts of all. "
        "The line says how many were still going."
    )
    return Picture(name, title, caption, figure, Table(columns, rows))


def _by_step(counts: Mapping[str, Sequence[int]], operators: Sequence[str]) -> Any:
    """All operators' counts at each step; 0 of those that the run does not have."""
    steps = len(next(iter(counts.values())))
    return zip(*(counts.get(name, [0] * steps) for name in operators), strict=True)


def _grid(count: int) -> tuple[int, int]:
    return -(-count // 2), min(count, 2)


def _finish(figure: Figure, all_axes: Sequence[Axes], shown: Sequence[Run]) -> None:
    for axes, run in zip(all_axes, shown, strict=False):
        axes.set_ylim(0, 1.02)
        axes.grid(False)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        if len(shown) > 1:
            axes.set_title(run.label)
    for axes in all_axes[len(shown) :]:
        axes.remove()
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
