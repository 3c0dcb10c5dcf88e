"""Pictures and their numbers, against the metrics they were made of."""

import json

import numpy as np
import pytest
from support.simulated_run import OPERATORS, metrics_line, write_run

from reoac_jax.report import curves
from reoac_jax.report.curves import _running_mean
from reoac_jax.report.operator_use import shares_by_step
from reoac_jax.report.picture import inline_svg, save_picture, style
from reoac_jax.report.projection import principal_plane
from reoac_jax.report.relation_map import relation_map
from reoac_jax.report.runs import read_runs
from reoac_jax.report.theme import COLOURS


@pytest.fixture
def runs(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, iterations=3, seed=ord(name))
    return read_runs([str(tmp_path / "a"), str(tmp_path / "b")], 500)


def test_curves_hold_the_metrics_of_every_run(runs):
    with style():
        picture = curves.rewards(runs)
    rows = [dict(zip(picture.table.columns, row, strict=True)) for row in picture.table.rows]
    expected = [(run.label, i, metrics_line(i)["reward"]) for run in runs for i in range(3)]
    assert [(row["run"], row["iteration"], row["reward"]) for row in rows] == expected
    for axes, key in zip(picture.figure.axes, ("reward", "accuracy", "return"), strict=True):
        drawn = [line.get_ydata().tolist() for line in axes.get_lines()]
        assert drawn == [[metrics_line(i)[key] for i in range(3)]] * 2


def test_a_series_that_only_some_runs_have(runs):
    for line in runs[0].metrics:
        del line["backbone_loss"]
    with style():
        picture = curves.losses(runs)
        assert len(picture.figure.axes) == 3
        assert [row[-1] == "" for row in picture.table.rows] == [True] * 3 + [False] * 3
        absent = curves.fine_tuning(runs)
    assert absent.figure is None and "loss" in absent.caption and not absent.table.rows


def test_operators_by_step_are_counted_over_the_last_iterations(runs):
    with style():
        picture = shares_by_step(runs[:1])
    counts = np.array([metrics_line(2)["operators_by_step"][name] for name in OPERATORS])
    heights = np.array([bar.get_height() for bar in picture.figure.axes[0].patches])
    expected = counts / counts.sum(axis=0)
    np.testing.assert_allclose(heights.reshape(len(OPERATORS), -1), expected)
    assert len(picture.table.rows) == 3 * 6


def test_running_mean():
    values = np.random.default_rng(0).normal(size=20)
    plain = [values[max(0, i - 3) : i + 1].mean() for i in range(20)]
    np.testing.assert_allclose(_running_mean(values, 4), plain)


def test_principal_plane_is_that_of_the_correlation_matrix():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    features[:, 2] = 7.0  # never varies
    places, shares, loadings = principal_plane(features)
    varying = [0, 1, 3, 4, 5]
    values, vectors = np.linalg.eigh(np.corrcoef(features[:, varying].T))
    np.testing.assert_allclose(shares, values[::-1][:2] / 5)
    cosine = np.abs(np.sum(loadings[:, varying] * vectors[:, ::-1][:, :2].T, axis=1))
    np.testing.assert_allclose(cosine, 1)
    np.testing.assert_allclose(places.var(axis=0), values[::-1][:2])
    np.testing.assert_allclose(loadings[:, 2], 0, atol=1e-12)
    places, shares, _ = principal_plane(np.ones((3, 4)))
    assert not places.any() and not shares.any()


def test_an_svg_takes_its_colours_from_the_page(runs, tmp_path):
    for episode in runs[0].episodes:
        record = json.loads(episode.file.read_text())
        record["prompt_tokens"][0] = "$x_1$"
        episode.file.write_text(json.dumps(record))
    with style():
        picture = relation_map(runs[0], 1)
        svg = inline_svg(picture)
        save_picture(picture, tmp_path / "p", tmp_path / "s")
    assert not any(light in svg for light, _ in COLOURS.values()) and "var(--ink)" in svg
    assert svg.startswith("<svg") and "<metadata>" not in svg and "<style " not in svg
    assert ">$x_1$<" in svg  # as it is, not as mathematics
    assert (tmp_path / "p" / "relation_map.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "s" / "relation_map.csv").read_text().splitlines()) > 45
