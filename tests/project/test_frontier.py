"""Hull, budget and intervals of the study, against plain computations."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from reoac_jax.config import load_config
from reoac_jax.system.errors import InputError, run_command
from scripts.frontier import budgets
from scripts.frontier.budgets import (
    Point,
    at_budget,
    divided,
    over_seeds,
    paired_difference,
    upper_hull,
)

PROBLEMS = 20


def point(name, passes, right):
    """A point with the first `right` of 20 problems solved."""
    return Point(name, passes, (np.arange(PROBLEMS) < right).astype(float))


curves = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, PROBLEMS)), min_size=1, max_size=12, unique=True
).map(lambda pairs: [point(str(i), p / 4, r) for i, (p, r) in enumerate(pairs)])


@given(curves, st.floats(0.0, 12.0))
def test_no_mixture_of_two_points_within_the_budget_does_better(points, budget):
    """The definition itself: the best of all points and of all mixtures of two of them."""
    best = max((p.accuracy for p in points if p.passes <= budget), default=None)
    for one in points:
        for other in points:
            if one.passes <= budget < other.passes:
                share = (budget - one.passes) / (other.passes - one.passes)
                best = max(best, (1 - share) * one.accuracy + share * other.accuracy)
    found = at_budget(points, budget)
    if best is None:
        assert found is None
    else:
        assert found.mean() == pytest.approx(best, abs=1e-9)


@given(curves)
def test_the_hull_rises_ever_more_slowly(points):
    hull = upper_hull(points)
    steps = [(b.passes - a.passes, b.accuracy - a.accuracy) for a, b in zip(hull, hull[1:])]  # noqa: B905
    assert all(run > 0 and rise > 0 for run, rise in steps)
    slopes = [rise / run for run, rise in steps]
    assert slopes == sorted(slopes, reverse=True)


@given(st.lists(curves, min_size=1, max_size=3), st.floats(0.0, 12.0))
def test_no_other_division_of_the_passes_does_better(kinds, budget):
    """The linear program itself: which share of each kind is under which policy."""
    shares = np.arange(1, len(kinds) + 1) / sum(range(1, len(kinds) + 1))
    weights = [share for share, points in zip(shares, kinds, strict=True) for _ in points]
    points = [point for points in kinds for point in points]
    ends = np.cumsum([0, *map(len, kinds)])
    of_kind = [
        [float(start <= i < end) for i in range(len(points))]
        for start, end in zip(ends, ends[1:], strict=False)
    ]
    solved = optimize.linprog(
        [-w * p.accuracy for w, p in zip(weights, points, strict=True)],
        A_ub=[[w * p.passes for w, p in zip(weights, points, strict=True)]], b_ub=[budget],
        A_eq=of_kind, b_eq=np.ones(len(kinds)),
    )  # fmt: skip
    found = divided(kinds, shares, budget)
    if found is None:
        assert not solved.success or budget < sum(
            share * min(p.passes for p in points)
            for share, points in zip(shares, kinds, strict=True)
        )
    else:
        reached = sum(share * p.accuracy for share, p in zip(shares, found, strict=True))
        assert reached == pytest.approx(-solved.fun, abs=1e-7)
        assert np.dot(shares, [p.passes for p in found]) <= budget + 1e-9


def test_an_actor_is_compared_with_a_rule_for_each_length(monkeypatch):
    """Rule b is worth its passes on short answers alone."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    by_length = importlib.import_module("by_length")
    lengths = np.repeat([12, 18], 8)

    def row(policy, right, passes):
        solved = np.concatenate([np.arange(8) < count for count in right])
        each = dict(zip(("12", "18"), passes, strict=True))
        return {
            "subject": "positions", "seed": 0, "policy": policy, "problems": 16,
            "accuracy": solved.mean(), "passes": float(np.mean(passes)),
            "by_length": {n: {"passes": p} for n, p in each.items()},
            "correct": np.packbits(solved).tobytes().hex(),
        }  # fmt: skip

    rules = [row("a", (2, 0), (2.0, 2.0)), row("b", (6, 1), (6.0, 6.0))]
    others = [row("c", (3, 3), (4.0, 4.0))]
    found = by_length.against(row("actor", (4, 2), (4.0, 4.0)), rules, others, lengths)
    assert found["accuracy_by_length"] == {"12": 0.5, "18": 0.25}
    assert found["division"]["12"] == {"policies": "b", "passes": 6.0, "accuracy": 0.75}
    assert found["division"]["18"] == {"policies": "a", "passes": 2.0, "accuracy": 0.0}
    assert found["division_accuracy"] == 0.375 == found["accuracy"]
    assert found["lead_over_division"]["mean"] == pytest.approx(0.0)
    assert found["mixture_accuracy"] == 0.375  # c, which takes four passes of every row
    without = by_length.against(row("actor", (4, 2), (4.0, 4.0)), rules, [], lengths)
    assert without["mixture_accuracy"] == pytest.approx((2 / 16 + 7 / 16) / 2)
    assert without["lead_over_mixture"]["mean"] == pytest.approx(0.375 - 9 / 32)


def test_what_a_study_trained_is_told_from_the_rules_over_the_backbone_as_it_was(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    by_length = importlib.import_module("by_length")

    def row(subject, policy, right, passes):
        bits = np.packbits(np.arange(8) < right).tobytes().hex()
        return {
            "subject": subject, "policy": policy, "passes": passes, "problems": 8,
            "correct": bits, "seed": 0,
        }  # fmt: skip

    actor, untrained = (
        row("positions", "actor", 3, 2.0),
        row("positions untrained", "actor", 1, 2.0),
    )
    best, worse = row("lora", "O_SHARE", 4, 3.0), row("lora", "threshold", 3, 4.0)
    rules = [row("bundled", "threshold", 2, 3.0), row("start", "O_NUM", 4, 9.0)]
    checked = row("bundled", "check_and_rewrite:passes=9", 8, 9.0)
    rows = [actor, untrained, best, worse, *rules, checked]
    assert by_length.trained_of(rows) == [actor, best]
    assert by_length.untrained_of(rows) == rules
    with pytest.raises(InputError, match="neither an actor nor a trained backbone"):
        by_length.trained_of([untrained, *rules])


def test_a_budget_between_two_points_is_their_mixture_problem_by_problem():
    points = [point("a", 4.0, 8), point("b", 8.0, 12), point("dominated", 6.0, 8)]
    mixed = at_budget(points, 5.0)
    np.testing.assert_allclose(mixed, 0.75 * points[0].correct + 0.25 * points[1].correct)
    assert at_budget(points, 3.9) is None
    assert at_budget(points, 100.0).mean() == 0.6


@pytest.mark.slow
def test_a_paired_interval_covers_as_often_as_it_says(monkeypatch):
    """Of 200 samples with a true difference of 0.1, about 95 % of the intervals hold it."""
    monkeypatch.setattr(budgets, "_RESAMPLES", 1000)  # of 10 000: as good on the mean
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        hard = rng.random(300)
        ours, theirs = (hard < 0.6) * 1.0, (hard < 0.5) * 1.0
        noise = rng.random(300) < 0.05  # problems on which theirs is right by luck
        theirs = np.maximum(theirs, noise)
        truth = 0.1 - 0.05 * 0.5
        found = paired_difference(ours, theirs, seed=trial)
        covered += found.low <= truth <= found.high
    assert 180 <= covered <= 199
    same = paired_difference(ours, ours)
    assert same == (0.0, 0.0, 0.0)


def test_seeds_have_students_interval():
    values = [0.5, 0.53, 0.58]
    found = over_seeds(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found == pytest.approx((np.mean(values), low, high), abs=1e-4)
    with pytest.raises(ValueError, match="1 seeds"):
        over_seeds([0.5])


def test_an_actor_over_a_trained_backbone_is_compared_with_mixtures_of_either_alone(
    monkeypatch, tmp_path
):
    """What checks is no rival, nor is what takes more passes, but a mixture with it is."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    together = importlib.import_module("together")

    def row(policy, family, passes, right, split="test"):
        solved = np.packbits(np.arange(100) < right).tobytes().hex()
        return {
            "subject": family, "seed": 0, "policy": policy, "family": family, "passes": passes,
            "split": split, "problems": 100, "correct": solved, "accuracy": right / 100,
        }  # fmt: skip

    rows = [
        row("a", "rule", 2.0, 10), row("b", "rule", 6.0, 50), row("d", "rule", 3.0, 80, "dev"),
        row("c", "check_and_rewrite", 3.0, 90),
    ]  # fmt: skip
    file = tmp_path / "alone.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone = together.alone_in(file, 100)
    found = together.against(row("actor", "actor", 4.0, 45), alone)
    assert found["best"]["policy"] == "a" and found["mixture_accuracy"] == pytest.approx(0.3)
    assert found["paired_difference_to_best"]["mean"] == pytest.approx(0.35)
    assert found["paired_difference_to_mixture"]["mean"] == pytest.approx(0.15)
    assert "best" not in together.against(
        row("actor", "actor", 1.0, 45), together.alone_in(file, 100)
    )
    with pytest.raises(InputError, match="no rows on 7 test problems"):
        together.alone_in(file, 7)
    with pytest.raises(InputError, match="expected the .jsonl of a study"):
        together.alone_in(tmp_path / "absent.jsonl", 7)


def test_backbones_are_compared_at_a_budget_over_seeds_and_problems(monkeypatch):
    """Two seeds of the trained one; the start's best is a mixture of two of its points."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    few_passes = importlib.import_module("few_passes")

    def row(subject, seed, policy, passes, right, split="test"):
        solved = np.packbits(np.arange(100) < right).tobytes().hex()
        return {
            "subject": subject, "seed": seed, "policy": policy, "passes": passes, "split": split,
            "problems": 100, "correct": solved,
        }  # fmt: skip

    order = f"schedule:counts={few_passes.LENGTHS[20].counts}"
    rows = [
        row("start", 0, "a", 2.0, 10), row("start", 0, "b", 4.0, 30),
        row("full", 0, order, 3.0, 50), row("full", 1, order, 3.0, 60),
        row("full", 0, "unseen", 3.0, 99, "dev"),
    ]  # fmt: skip
    table = few_passes.at(rows, 3.0)
    assert table["accuracy"] == pytest.approx({"start": 0.2, "full": 0.55})
    assert table["seeds"]["full"] == [0.5, 0.6]
    assert table["full - start"]["mean"] == pytest.approx(0.35)
    assert table["full - start"]["low"] < 0.35 < table["full - start"]["high"]
    assert "full - control" not in table and set(few_passes.at(rows, 1.0)["accuracy"]) == set()
    assert few_passes.in_order(rows, order) == {"test": {"full, seed 0": 0.5, "full, seed 1": 0.6}}


def test_the_rooms_sequence_is_read_from_its_result(monkeypatch, tmp_path):
    root = Path(__file__).resolve().parents[2]
    monkeypatch.syspath_prepend(str(root / "scripts"))
    sequence_of = importlib.import_module("by_length").sequence_of
    found = sequence_of(root / "benchmarks" / "room_mixed.json").split(",")
    assert len(found) == 25 and set(found) == {"O_NUM", "O_FAST", "O_NEXT"}
    wrong = tmp_path / "room.json"
    for text in ("", "[]", "{}", '{"sequences": 3}'):
        wrong.write_text(text)
        with pytest.raises(InputError, match="expected the .json of room.py"):
            sequence_of(wrong)
    with pytest.raises(InputError, match="--room"):
        sequence_of(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("tiny_few_passes", "schedule:counts=4-4"),
        ("mixed_few_passes", "schedule:counts=3-3-3-3-3-3-3"),
        ("mixed_share", "O_SHARE"),
    ],
)
def test_the_order_of_training_is_a_policy(name, order, monkeypatch, configs):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    few_passes = importlib.import_module("few_passes")
    config = load_config(configs / f"{name}.py")
    study = SimpleNamespace(config=lambda: config, options=SimpleNamespace(config=name))
    assert few_passes.order_of_training(study) == order


def test_the_room_of_a_choice_is_not_luck(monkeypatch):
    """Choices that differ by noise alone are worth nothing; one that a problem decides, and one
    that the length decides, are found on one half of the rollouts and hold on the other."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    choices = importlib.import_module("room").choices
    rng = np.random.default_rng(0)
    problems, lengths = 2000, np.repeat([12, 18], 1000)

    def rollouts(chance):  # of each problem
        return (rng.random((problems, 16)) < np.reshape(chance, (-1, 1))).astype(float)

    same = choices({name: rollouts(np.full(problems, 0.4)) for name in "abc"}, lengths)
    assert same["all"] == pytest.approx(0.4, abs=0.02)
    assert same["problem"] == pytest.approx(0.4, abs=0.02) and same["any"] == 1.0
    likes = rng.random(problems) < 0.5
    told = choices(
        {"a": rollouts(np.where(likes, 0.8, 0.0)), "b": rollouts(np.where(likes, 0.0, 0.8))},
        lengths,
    )
    assert told["all"] == pytest.approx(0.4, abs=0.03)
    assert told["problem"] == pytest.approx(0.8, abs=0.02) and told["any"] > 0.99
    long = lengths == 18
    by_length = choices(
        {"a": rollouts(np.where(long, 0.8, 0.2)), "b": rollouts(np.where(long, 0.2, 0.8))}, lengths
    )
    assert by_length["length"] == pytest.approx(0.8, abs=0.02)
    assert by_length["all"] == pytest.approx(0.5, abs=0.02)


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    return importlib.import_module("study")


def dev_row(family, policy, passes, right):
    """A row of 100 development problems of the backbone as it is."""
    solved = np.packbits(np.arange(100) < right).tobytes().hex()
    return {
        "subject": "bundled", "seed": 0, "split": "dev", "problems": 100, "correct": solved,
        "family": family, "policy": policy, "passes": passes, "config_hash": "c",
        "backbone_hash": "base and run", "accuracy": right / 100,
    }  # fmt: skip


def test_what_is_close_to_the_best_is_measured_with_its_neighbours(study):
    grids = importlib.import_module("frontier.grids")
    rows = [
        dev_row("best", "best 4", 4.0, 40), dev_row("best", "best 8", 8.0, 60),
        # Near at 8 passes; its neighbour is not, but between the two its frontier is read.
        dev_row("near", "near 4", 4.0, 10), dev_row("near", "near 8", 8.0, 56),
        dev_row("far", "far 4", 4.0, 34), dev_row("far", "far 8", 8.0, 54),
        # No rival of plain rules, and no reason to leave one out.
        dev_row(f"{grids.CHECKED}", f"{grids.CHECKED}:passes=8", 8.0, 90),
    ]  # fmt: skip
    found = [(row["family"], row["policy"]) for row in rows]
    kept = study.close_to_the_best(SimpleNamespace(rows=SimpleNamespace(all=rows)), found)
    names = ["best 4", "best 8", "near 4", "near 8", f"{grids.CHECKED}:passes=8"]
    assert [policy for _, policy in kept] == names


def test_actor_and_backbone_together_are_compared_with_either_alone(study):
    """At 6 passes rules alone solve half, and trained backbones alone six in ten."""
    results = importlib.import_module("frontier.results")
    grids = importlib.import_module("frontier.grids")

    def row(subject, family, passes, right, seed=0):
        own = {"split": "test", "subject": subject, "seed": seed}
        return dev_row(family, f"{family} {passes}", passes, right) | own

    rows = [
        row("bundled", "threshold", 4.0, 40), row("bundled", "threshold", 8.0, 60),
        row("bundled", grids.CHECKED, 6.0, 90),  # reads the notation
        row("trajectory", "by_hand", 4.0, 45, 1), row("trajectory", "by_hand", 8.0, 75),
        row(grids.TOGETHER, "actor", 6.0, 70), row("positions 1.0", "actor", 6.0, 50),
    ]  # fmt: skip
    together, positions = sorted(results.compared(rows), key=lambda entry: -entry["accuracy"])
    assert together["mixture_accuracy"] == pytest.approx(0.5)
    assert together["either_alone_accuracy"] == pytest.approx(0.6)
    assert together["paired_difference_to_either_alone"].mean == pytest.approx(0.1)
    assert "either_alone_accuracy" not in positions


def test_a_run_is_not_made_again_where_all_its_rows_are_there(study, monkeypatch):
    """Only of the same training and backbone, on as many problems."""
    measure = importlib.import_module("frontier.measure")
    monkeypatch.setattr(measure, "config_hash", lambda config: config)
    own = object.__new__(measure.Study)
    own.options = SimpleNamespace(dev=100, test=200)
    own.rows = SimpleNamespace(all=[dev_row("actor", "actor", 4.0, 40)])
    wanted = [("actor", "actor", "dev")]
    assert own.has("bundled", 0, "c", "base", wanted)
    assert not own.has("bundled", 0, "c", "base", [*wanted, ("actor", "actor", "test")])
    assert not own.has("bundled", 1, "c", "base", wanted)
    assert not own.has("bundled", 0, "another", "base", wanted)
    assert not own.has("bundled", 0, "c", "another", wanted)
    own.options.dev = 50
    assert not own.has("bundled", 0, "c", "base", wanted)


def test_a_missing_configuration_is_said_before_anything_is_measured(
    study, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(study, "measure_samplers", lambda _: pytest.fail("measured"))
    argv = ["--config", "configs/mixed.py", "--output", str(tmp_path / "out")]
    assert run_command(study.main, [*argv, "--stages", "samplers", "together"]) == 2
    assert "there is no configs/mixed_together.py" in capsys.readouterr().err


def test_a_training_before_takes_no_overlay(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    few_passes = importlib.import_module("few_passes")
    monkeypatch.setattr(few_passes, "studying", lambda *_: pytest.fail("measured"))
    argv = ["--config", "configs/mixed_few_passes.py", "--output", str(tmp_path / "out")]
    assert run_command(few_passes.main, [*argv, "--after", "configs/mixed_trajectory.py"]) == 2
    assert "--after trains all weights" in capsys.readouterr().err
