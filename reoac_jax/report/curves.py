"""Pictures of what metrics.jsonl holds, by iteration, several runs in one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from reoac_jax.policy.distributions import AnyPositions
from reoac_jax.report.picture import Picture, Table, new_figure
from reoac_jax.report.runs import Run, all_operators
from reoac_jax.report.theme import LIGHT, run_style

_MARKED = 30  # points of a line, up to which each gets a marker; longer ones get a running mean


class Panel(NamedTuple):
    """key: in metrics.jsonl. title: over the axes. bounds: fixed limits of the axis, or None."""

    key: str
    title: str
    bounds: tuple[float, float] | None = None


LOSSES = (
    Panel("critic_loss", "Critic loss"),
    Panel("actor_loss", "Actor loss"),
    Panel("backbone_loss", "Backbone loss"),
)
REWARDS = (
    Panel("reward", "Reward"),
    Panel("accuracy", "Accuracy (strict)"),
    Panel("return", "Return: reward less cost"),
)
COSTS = (
    Panel("cost", "Cost of an episode"),
    Panel("forward_passes", "Forward passes of an episode"),
    Panel("steps", "Steps of an episode"),
)
FINE_TUNING = (
    Panel("loss", "Training loss (nats a token)"),
    Panel("learning_rate", "Learning rate"),
    Panel("gradient_norm", "Gradient norm"),
)


def losses(runs: Sequence[Run]) -> Picture:
    return _curves(
        "losses",
        "Losses",
        "Each loss before its gradient step, averaged over the steps of an iteration.",
        LOSSES,
        runs,
    )


def rewards(runs: Sequence[Run]) -> Picture:
    return _curves(
        "reward_accuracy",
        "Reward and accuracy",
        "Means over the episodes of an iteration, rolled out on training problems. How good the "
        "policy is on unseen problems is under Comparison.",
        REWARDS,
        runs,
    )


def costs(runs: Sequence[Run]) -> Picture:
    return _curves(
        "cost_forward_passes",
        "Cost and forward passes",
        "Means over the episodes of an iteration. Forward passes count those that branching makes.",
        COSTS,
        runs,
    )


def entropy(runs: Sequence[Run]) -> Picture:
    operators = [name for name in all_operators(runs) if name != AnyPositions.name]
    of_positions = len(operators) < len(all_operators(runs))
    count = max(len(operators), 1)
    highest = math.log(count)
    bounds = (0.0, 1.08 * highest) if count > 1 and not of_positions else None
    caption = (
        f"0 when the actor always picks the same operator; the dotted line, ln {count}, when it "
        "picks at random."
    )
    if of_positions:
        caption += " Of an actor over positions: the sum over the masked ones."
    picture = _curves(
        "actor_entropy",
        "Actor entropy",
        caption,
        (Panel("actor_entropy", "Actor entropy (nats)", bounds),),
        runs,
    )
    if picture.figure is not None:
        picture.figure.axes[0].axhline(highest, color=LIGHT["muted"], linestyle=":", linewidth=1)
    return picture


def fine_tuning(runs: Sequence[Run]) -> Picture:
    return _curves(
        "fine_tuning",
        "Supervised fine-tuning",
        "By step of python -m reoac_jax.sft; the loss is that of the masked-diffusion objective.",
        FINE_TUNING,
        runs,
        x_label="step",
    )


def draw_series(axes: Axes, panel: Panel, runs: Sequence[Run], x_label: str = "iteration") -> None:
    """One line a run; a long one is drawn thin, with a running mean over a 20th of it."""
    for place, run in enumerate(runs):
        x, y = run.series(panel.key)
        if not len(x):
            continue
        style = run_style(place)
        if len(x) <= _MARKED:
            axes.plot(x, y, **style, marker="o", markersize=3, label=run.label)
            continue
        axes.plot(x, y, **style | {"linestyle": "-"}, linewidth=0.7, alpha=0.35)
        axes.plot(x, _running_mean(y, len(y) // 20 + 1), **style, label=run.label)
    axes.set_title(panel.title)
    axes.set_xlabel(x_label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if panel.bounds is not None:
        axes.set_ylim(*panel.bounds)


def _curves(
    name: str,
    title: str,
    caption: str,
    panels: Sequence[Panel],
    runs: Sequence[Run],
    x_label: str = "iteration",
) -> Picture:
    columns = ("run", x_label, *(panel.key for panel in panels))
    present = [panel for panel in panels if any(len(run.series(panel.key)[0]) for run in runs)]
    if not present:
        keys = ", ".join(panel.key for panel in panels)
        return Picture.absent(name, title, f"No line of metrics.jsonl holds {keys}.", columns)
    figure, all_axes = new_figure(1, len(present), width=3.6 if len(present) > 1 else 6.4)
    for axes, panel in zip(all_axes, present, strict=True):
        draw_series(axes, panel, runs, x_label)
    if len(runs) > 1:
        handles: dict = {}
        for axes in all_axes:
            handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=2)
    rows = [
        (run.label, line["iteration"], *(line.get(panel.key, "") for panel in panels))
        for run in runs
        for line in run.metrics
        if any(panel.key in line for panel in panels)
    ]
    return Picture(name, title, caption, figure, Table(columns, rows))


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the last `width` values at each place, of fewer at the start."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - width, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
