"""The download command, with local sources and with a hub that is there, empty or unreachable."""

import json
import os
import subprocess
from pathlib import Path

import datasets
import pytest

from reoac_jax.system.errors import run_command
from reoac_jax.tasks import prepare
from reoac_jax.tasks.dataset import read_problems

_ROOT = Path(__file__).parents[2]
_ROWS = {
    "gsm8k": {"question": "How many?", "answer": "<<1+1=2>> so\n#### 2"},
    "math": {"problem": "p", "level": "Level 1", "type": "t", "solution": r"is $\boxed{2}$"},
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _config(task):
    return str(_ROOT / "configs" / f"{task}.py")


def _source(folder, task, **lines):
    folder.mkdir()
    for split in ("train", "test"):
        text = lines.get(split, json.dumps(_ROWS[task]))
        (folder / f"{split}.jsonl").write_text(text + "\n", encoding="utf-8")
    return str(folder)


def _run(*arguments):
    return run_command(prepare.main, arguments)


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["gsm8k", "math"])
def test_local_source(here, capsys, task):
    source = _source(here / "source", task)
    assert _run(task, _config(task), "all", "--source", source) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["problems"] == {"train": 1, "test": 1}
    for split in ("train", "test"):
        (problem,) = read_problems(f"data/processed/{task}_{split}.jsonl", task)
        assert problem.target_answer == "2" and problem.id == f"{task}/{split}/0"
        raw = Path(f"data/raw/{task}/{split}.jsonl").read_text(encoding="utf-8")
        assert json.loads(raw) == _ROWS[task]


@pytest.mark.process
def test_real_files_through_the_script(here, shared_data):
    """GSM8K's as they are; of MATH, whose solutions are graded, 150 rows of each file."""
    (here / "math").mkdir()
    for file in (shared_data / "math").glob("*.jsonl"):
        rows = file.read_text(encoding="utf-8").splitlines(keepends=True)[:150]
        (here / "math" / file.name).write_text("".join(rows), encoding="utf-8")
    script = ["bash", str(_ROOT / "scripts" / "download_data.sh")]
    for source, counts in ((shared_data / "gsm8k", (7473, 1319)), (here / "math", (150, 150))):
        task = source.name
        command = [*script, task, _config(task), "all", "--source", str(source)]
        subprocess.run(command, check=True, capture_output=True)
        for split, count in zip(("train", "test"), counts, strict=True):
            assert len(read_problems(f"data/processed/{task}_{split}.jsonl", task)) == count


def test_one_split_only(here):
    source = _source(here / "source", "gsm8k")
    assert _run("gsm8k", _config("gsm8k"), "test", "--source", source) == 0
    assert os.listdir("data/processed") == ["gsm8k_test.jsonl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "test.jsonl:1: malformed JSON"),
        ('{"question": "q"}', "test.jsonl:1: field 'answer' is missing"),
        ('{"question": "q", "answer": "5"}', "test.jsonl:1: 'answer' ends in '5'"),
        (
            '{"question": "q", "answer": "#### 5 hours 30 minutes"}',
            "test.jsonl:1: 'answer' ends in '#### 5 hours 30 minutes'; expected '#### ' and",
        ),
    ],
)
def test_a_malformed_line_leaves_everything_as_it_was(here, capsys, line, message):
    source = _source(here / "source", "gsm8k", test=line)
    before = _files(here)
    assert _run("gsm8k", _config("gsm8k"), "all", "--source", source) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and message in errors[0]
    assert _files(here) == before


@pytest.mark.slow
def test_math_solutions_that_are_not_graded_right_are_listed(here, capsys):
    right = json.dumps(_ROWS["math"])
    unread = json.dumps({"problem": "p", "level": "Level 1", "answer": r"\text{}"})
    source = _source(here / "source", "math", train=f"{right}\n{unread}")
    assert _run("math", _config("math"), "train", "--source", source) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["not_graded_right"] == {"train": ["math/train/1"]}
    assert "train.jsonl:2: the solution is not graded as right" in printed.err
    assert "train: 1 of 2 solutions not graded as right" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gsm8k", _config("math"), "all"], "is for task 'math'; expected 'gsm8k'"),
        (["gsm8k", _config("gsm8k"), "most"], "invalid choice: 'most'"),
        (["gsm9k", _config("gsm8k"), "all"], "invalid choice: 'gsm9k'"),
        (["gsm8k", "none.py", "all"], "none.py"),
        (["gsm8k", _config("gsm8k"), "all", "--source", "none"], "--source none holds no train"),
    ],
)
def test_mistakes_end_in_one_line(here, capsys, arguments, message):
    assert _run(*arguments) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and message in errors[0]
    assert _files(here) == []


@pytest.mark.slow
def test_the_hub_is_asked_for_every_part(here, monkeypatch):
    asked = []

    def load_dataset(repository, config, split):
        asked.append((repository, config, split))
        return [_ROWS["math"]]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert _run("math", _config("math"), "train") == 0
    assert {repository for repository, *_ in asked} == {"EleutherAI/hendrycks_math"}
    assert len({config for _, config, _ in asked}) == 7
    problems = read_problems("data/processed/math_train.jsonl", "math")
    assert [problem.id for problem in problems] == [f"math/train/{n}" for n in range(7)]


def test_an_unreachable_hub_names_the_alternative(here, monkeypatch, capsys):
    def load_dataset(*arguments, **options):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert _run("gsm8k", _config("gsm8k"), "all") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "openai/gsm8k" in errors[0] and "--source DIR" in errors[0]
    assert _files(here) == []
