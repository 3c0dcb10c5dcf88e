"""Picture of the critic: what it predicted against what came."""

from collections.abc import Sequence

import numpy as np

from reoac_jax.report.curves import Panel, draw_series
from reoac_jax.report.picture import Picture, Table, new_figure
from reoac_jax.report.runs import Run
from reoac_jax.report.theme import LIGHT, run_style

_BINS = 8
_MANY = 1500  # points, from which the page holds them as an image: an SVG would be megabytes


def critic_against_return(runs: Sequence[Run]) -> Picture:
    name, title = "critic_against_return", "Critic prediction against return"
    columns = ("run", "iteration", "episode", "step", "operator", "q", "return")
    rows = [
        (run.label, episode.iteration, episode.number, step + 1, run.operators[operator],
         episode.q[step, operator], episode.episode_return)
        for run in runs
        for episode in run.episodes
        if episode.q.size
        for step, operator in enumerate(episode.operator)
    ]  # fmt: skip
    explained = Panel("explained_variance", "Explained variance of the return")
    has_explained = any(len(run.series(explained.key)[0]) for run in runs)
    if not rows and not has_explained:
        why = "There are no sampled episodes of a critic, and no metrics."
        return Picture.absent(name, title, why, columns)
    figure, (scatter, curve) = new_figure(1, 2, width=4.8, height=3.4)
    for place, run in enumerate(runs):
        own = [row for row in rows if row[0] == run.label]
        if not own:
            continue
        # An untrained critic's predictions would bend the line.
        middle = (own[0][1] + own[-1][1]) / 2
        points = np.array([row[5:] for row in own if row[1] >= middle], float)
        colour = run_style(place)["color"]
        scatter.scatter(
            *points.T, s=7, color=colour, alpha=0.25, linewidths=0, rasterized=len(rows) > _MANY
        )
        scatter.plot(*_binned(points), color=colour, marker="o", markersize=4, label=run.label)
    if rows:
        scatter.axline((0, 0), slope=1, color=LIGHT["muted"], linestyle=":", linewidth=1)
    scatter.set_title("Sampled steps, second half")
    scatter.set_xlabel("predicted: Q of the operator that acted")
    scatter.set_ylabel("return of the episode")
    draw_series(curve, explained, runs)
    curve.axhline(0, color=LIGHT["muted"], linestyle=":", linewidth=1)
    if len(runs) > 1:
        figure.legend(*scatter.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    caption = (
        "Left: a faint point is a step of the second half of the training; the line is the mean "
        f"return of {_BINS} equal parts of them, by prediction. On the dotted diagonal the critic "
        "is right on average. Right: 1 would be a perfect critic, 0 one that knows the mean only "
        "(of the critic that acted, on episodes it had not learned from)."
    )
    return Picture(name, title, caption, figure, Table(columns, rows))


def _binned(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of both columns of `[n, 2]` in parts of equal size, by the first column."""
    parts = np.array_split(points[points[:, 0].argsort()], min(_BINS, len(points)))
    means = np.array([part.mean(axis=0) for part in parts])
    return means[:, 0], means[:, 1]
