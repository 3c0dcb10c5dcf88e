"""What the report reads: runs that are whole, going on, killed or damaged; evaluations."""

import json

import pytest
from support.simulated_run import write_evaluation, write_run

from reoac_jax.report.evaluations import read_evaluations
from reoac_jax.report.runs import _labels, _spread, read_metrics, read_runs
from reoac_jax.system.errors import InputError


def test_a_whole_run(tmp_path):
    episodes = write_run(tmp_path / "exp" / "time", iterations=3)
    (run,) = read_runs([str(tmp_path / "exp" / "time")], 500)
    assert run.label == "exp/time"
    assert [line["iteration"] for line in run.metrics] == [0, 1, 2]
    iterations, values = run.series("reward")
    assert iterations.tolist() == [0, 1, 2]
    assert values.tolist() == [line["reward"] for line in run.metrics]
    assert run.series("nothing")[0].shape == (0,)
    assert [e.problem_id for e in run.episodes] == [e.record["id"] for e in episodes]
    assert run.notes == ["No checkpoint has been saved yet."]


@pytest.mark.parametrize(
    ("text", "iterations", "notes"),
    [
        (None, [], ["no metrics yet: metrics.jsonl does not exist"]),
        ("", [], ["no metrics yet: metrics.jsonl holds no whole line"]),
        ('{"iteration": 0}\n{"iteration": 1}\n', [0, 1], []),
        ('{"iteration": 0}\n{"iteration": 1, "rew', [0], ["Line 2 of metrics.jsonl was cut off"]),
        ('{"itera', [], ["Line 1 of metrics.jsonl was cut off", "no metrics yet"]),
        ('{"iteration": 0}\n\xff\n{"iteration": 2}\n', [0, 2], ["Line 2 of metrics.jsonl is dam"]),
        ('{"iteration": 0}\n[1]\n{"reward": 2}\n"x"\n{"iteration": "1"}\n{"iteration": 5}\n',
         [0, 5], ["Line 2 ", "Line 3 ", "Line 4 ", "Line 5 "]),
    ],
)  # fmt: skip
def test_metrics_of_any_kind(tmp_path, text, iterations, notes):
    path = tmp_path / "metrics.jsonl"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    records, found = read_metrics(path)
    assert [record["iteration"] for record in records] == iterations
    assert len(found) == len(notes)
    assert all(expected in note for expected, note in zip(notes, found, strict=True))


def test_damaged_samples_are_named_and_left_out(tmp_path):
    write_run(tmp_path, iterations=6)
    names = sorted((tmp_path / "samples").iterdir())
    names[1].write_text('{"iteration": 1')
    record = json.loads(names[2].read_text())
    del record["steps"][0]["q"]
    names[2].write_text(json.dumps(record))
    names[3].write_text("[" * 100_000)  # deeper than Python's parser goes
    names[4].write_text("[]")
    (run,) = read_runs([str(tmp_path)], 500)
    assert [episode.iteration for episode in run.episodes] == [0, 5]
    for name in names[1:5]:
        (note,) = [note for note in run.notes if name.name in note]
        assert note.endswith("it is left out.")


def test_many_episodes_are_spread_over_the_run(tmp_path):
    assert _spread(range(3), 3) == [0, 1, 2]
    assert _spread(range(9), 3) == [0, 4, 8]
    assert _spread(range(100), 1) == [99]
    write_run(tmp_path / "a", iterations=5)
    write_run(tmp_path / "b", iterations=2)
    runs = read_runs([str(tmp_path / "a"), str(tmp_path / "b")], 6)
    assert [[e.iteration for e in run.episodes] for run in runs] == [[0, 2, 4], [0, 1]]
    assert runs[0].sampled == 5 and "3 of the 5 sampled episodes" in " ".join(runs[0].notes)


def test_labels_tell_runs_apart(tmp_path):
    one, two = tmp_path / "x" / "exp" / "1", tmp_path / "y" / "exp" / "1"
    assert _labels([one]) == ["exp/1"]
    assert _labels([one, tmp_path / "x" / "exp" / "2"]) == ["exp/1", "exp/2"]
    assert _labels([one, two]) == ["x/exp/1", "y/exp/1"]


@pytest.mark.parametrize("config", ["{", "[]", None])
def test_no_run(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=r"config\.json"):
        read_runs([str(tmp_path)], 500)


def test_the_same_run_twice(tmp_path):
    write_run(tmp_path / "a")
    with pytest.raises(InputError, match="twice"):
        read_runs([str(tmp_path / "a"), str(tmp_path / "b" / ".." / "a")], 500)


def test_evaluations_are_found_and_sorted(tmp_path):
    run = tmp_path / "run"
    write_run(run)
    inside = write_evaluation(run / "evaluation.json", "actor", 0.4, checkpoint="c")
    (run / "other.json").write_text('{"something": "else"}')
    (run / "broken.json").write_text("{")
    files = [write_evaluation(tmp_path / f"{name}.json", name, score) for name, score in
             (("confidence", 0.5), ("O_NUM", 0.1), ("random_operator", 0.2))]  # fmt: skip
    results = read_evaluations([*map(str, files), str(inside)], [run])
    expected = [("confidence", "sampler"), ("actor", "actor"), ("random_operator", "fixed"),
                ("O_NUM", "fixed")]  # fmt: skip
    assert [(result.policy, result.kind) for result in results] == expected
    assert [result.label for result in results] == [policy for policy, _ in expected]
    assert (results[0].low, results[0].high, results[0].forward_passes) == (0.4, 0.6, 6.5)
    again = write_evaluation(tmp_path / "seed1" / "confidence.json", "confidence", 0.6)
    results = read_evaluations([str(files[0]), str(again)], [])
    assert [result.label for result in results] == [
        "confidence (seed1/confidence)",
        f"confidence ({tmp_path.name}/confidence)",
    ]


def test_a_sequence_of_operators_gets_a_short_label(tmp_path):
    path = write_evaluation(tmp_path / "s.json", "O_FAST,O_SCOPE,O_NUM", 0.6)
    (result,) = read_evaluations([str(path)], [])
    assert (result.kind, result.label) == ("fixed", "sequence of 3 operators")


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"policy": "actor", "task": "x"}'])
def test_a_named_file_must_be_an_evaluation(tmp_path, text):
    path = tmp_path / "e.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"e\.json"):
        read_evaluations([str(path)], [])
