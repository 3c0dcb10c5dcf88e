"""Picture of the features that the actor saw, projected to the plane of their largest variance."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from reoac_jax.report.picture import Picture, Table, new_figure
from reoac_jax.report.runs import Run, all_operators
from reoac_jax.report.theme import CATEGORIES, operator_colours

_MANY = 1500  # points, from which the page holds them as an image: an SVG would be megabytes
_REWARDS = LinearSegmentedColormap.from_list("reward", [CATEGORIES[1], "#9aa0a8", CATEGORIES[0]])


def feature_projection(runs: Sequence[Run]) -> Picture:
    name, title = "feature_projection", "Features of the sampled steps"
    columns = ("run", "iteration", "episode", "step", "operator", "reward", "x", "y")
    episodes = [(run, episode) for run in runs for episode in run.episodes]
    names = {episode.feature_names for _, episode in episodes}
    if len(names) != 1 or sum(len(episode.operator) for _, episode in episodes) < 3:
        why = "The runs' features differ." if len(names) > 1 else "There are too few sampled steps."
        return Picture.absent(name, title, why, columns)
    features = np.concatenate([episode.features for _, episode in episodes])
    places, shares, loadings = principal_plane(features)
    rows: list[tuple] = []
    for run, episode in episodes:
        for step, operator in enumerate(episode.operator):
            x, y = places[len(rows)]
            rows.append((run.label, episode.iteration, episode.number, step + 1,
                         run.operators[operator], episode.reward, x, y))  # fmt: skip
    shown = [run for run in runs if run.episodes]
    figure, all_axes = new_figure(len(shown), 2, width=5.6, height=3.3)
    labels = np.array([row[0] for row in rows])
    operators = np.array([row[4] for row in rows])
    rewards = np.array([row[5] for row in rows], float)
    for run, left, right in zip(shown, all_axes[::2], all_axes[1::2], strict=True):
        own = labels == run.label
        for operator, colour in operator_colours(all_operators(runs)).items():
            _scatter(
                left, places[own & (operators == operator)], len(rows), label=operator,
                color=colour,
            )  # fmt: skip
        colours = _REWARDS(rewards[own])
        _scatter(right, places[own], len(rows), color=colours)
        for value in sorted({0.0, 1.0, *np.quantile(rewards[own], [0.25, 0.5, 0.75]).round(2)}):
            right.scatter([], [], color=_REWARDS(value), s=22, label=f"{value:g}")
        left.legend(title="operator", loc="upper left", bbox_to_anchor=(1, 1), markerscale=1.6)
        right.legend(title="reward", loc="upper left", bbox_to_anchor=(1, 1))
        prefix = f"{run.label}: " if len(shown) > 1 else ""
        left.set_title(f"{prefix}by operator")
        right.set_title(f"{prefix}by reward")
        for axes in (left, right):
            axes.set_xlabel(f"first component, {shares[0]:.0%} of the variance")
            axes.set_ylabel(f"second component, {shares[1]:.0%}")
            axes.set(xlim=_limits(places[:, 0]), ylim=_limits(places[:, 1]))
    (feature_names,) = names
    strongest = [_strongest(feature_names, loading) for loading in loadings]
    caption = (
        "Principal components of the named features (standardised; without the pooled hidden "
        f"state). The first is made mostly of {strongest[0]}; the second of {strongest[1]}."
    )
    return Picture(name, title, caption, figure, Table(columns, rows))


def principal_plane(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two directions of largest variance of the standardised columns of float `[n, F]`, n >= 2.

    Returns:
      places float `[n, 2]`; shares `[2]` of the whole variance; loadings `[2, F]`, unit vectors
      whose largest entry is positive. A column that never varies has loading 0; where nothing else
      varies, places and shares are 0.
    """
    spread = features.std(axis=0)
    varies = spread > 1e-9
    scaled = np.where(varies, (features - features.mean(axis=0)) / np.where(varies, spread, 1), 0)
    _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
    loadings = np.zeros((2, features.shape[1]))
    loadings[: len(directions)] = directions[:2]
    largest = np.abs(loadings).argmax(axis=1)
    loadings *= np.where(loadings[[0, 1], largest] < 0, -1, 1)[:, None]
    variance = np.zeros(2)
    variance[: len(singular)] = np.square(singular[:2])
    total = np.square(singular).sum()
    return scaled @ loadings.T, variance / total if total > 0 else variance, loadings


def _scatter(axes: Axes, places: np.ndarray, all_points: int, **style) -> None:
    axes.scatter(*places.T, s=11, alpha=0.6, linewidths=0, rasterized=all_points > _MANY, **style)


def _limits(values: np.ndarray) -> tuple[float, float]:
    margin = 0.06 * max(np.ptp(values), 1e-6)
    return values.min() - margin, values.max() + margin


def _strongest(names: Sequence[str], loading: np.ndarray) -> str:
    order = np.abs(loading).argsort()[::-1][:3]
    return ", ".join(f"{names[i]} ({loading[i]:+.2f})" for i in order)
