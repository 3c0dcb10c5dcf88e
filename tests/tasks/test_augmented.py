"""Augmented GSM8K: the download command with lines of text and with the hub's rows."""

import json
from pathlib import Path

import datasets
import pytest

from reoac_jax.config import load_config
from reoac_jax.system.errors import run_command
from reoac_jax.tasks import make_task, prepare

_CONFIG = str(Path(__file__).parents[2] / "configs" / "gsm8k_aug.py")
_LONG = "A farmer has twelve hens and each of them lays three eggs a day for a week of seven days"
_TRAIN = [f"Dev problem number {i} asks how many there are?" for i in range(3)]
_LINES = [
    "Tom has 3 boxes of 4 eggs. How many eggs?||<<3*4=12>> #### 12",
    "How many?||<<1+1=2>> #### 2",  # equal to a test problem
    f"{_LONG}, how many dozens?||<<12*3=36>> <<36*7=252>> <<252/12=21>> #### 21",  # near one
    "dev PROBLEM number 2, asks how many there are||<<1+2=3>> #### 3",  # equal to one of dev
    "When is noon?||<<24/2=12>> #### 12:00",  # no number
    "",
    "Without equations?|| #### 7",
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with GSM8K's problems, of which the last two of training are for development."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "processed"
    folder.mkdir(parents=True)
    files = {"test": ["How many?", f"{_LONG}, how many eggs?"], "train": _TRAIN}
    for split, questions in files.items():
        rows = [
            {
                "id": f"gsm8k/{split}/{i}", "prompt": question, "target_answer": "2",
                "task": "gsm8k", "metadata": {"solution": "#### 2"},
            }
            for i, question in enumerate(questions)
        ]  # fmt: skip
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"gsm8k_{split}.jsonl").write_text(text)
    return tmp_path


def _run(*arguments, dev=2):
    return run_command(
        prepare.main,
        ["gsm8k_aug", _CONFIG, *map(str, arguments), f"--config.task.dev_size={dev}"],
    )


def _lines(folder, lines):
    path = folder / "train.txt"
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines) + b"\n")
    return path


def test_lines_become_problems_and_what_is_near_is_left_out(here, capsys):
    file = _lines(here, _LINES)
    assert _run("train", "--source", file) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["problems"] == {"train": 2}
    assert summary["dropped"]["train"] == {
        "equal to test": 1, "near to test": 1, "equal to dev": 1, "near to dev": 0,
        "answer is not one number": 1,
    }  # fmt: skip
    assert "train: 2 problems in" in printed.err and "1 left out: near to test" in printed.err

    config = load_config(_CONFIG, ["--config.task.dev_size=2"])
    task = make_task(config.task, config.grader)
    first, last = task.problems("train")
    assert task.reference_text(first) == "<<3*4=12>> #### 12"
    assert task.reference_text(last) == "#### 7" == last.metadata["solution"]
    assert task.grade([task.reference_text(first)], [first])[0].correct
    assert [problem.prompt for problem in task.problems("dev")] == _TRAIN[1:]
    assert len(task.problems("test")) == 2
    raw = (here / "data/raw/gsm8k_aug/train.jsonl").read_text().splitlines()
    assert len(raw) == 6 and json.loads(raw[1])["question"] == "How many?"


def test_a_folder_without_development_problems_and_the_hub_give_the_same(here, monkeypatch, capsys):
    def load_dataset(repository, config, split):
        assert (repository, config, split) == ("zen-E/GSM8k-Aug", "default", "train")
        return [
            {"question": "Tom has 3 boxes of 4 eggs. How many eggs?", "cot": "<<3*4=12>>",
             "answer": "12"},
            {"question": _TRAIN[2], "cot": "", "answer": "#### 3"},
        ]  # fmt: skip

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert _run("all", dev=0) == 0
    hub = Path("data/processed/gsm8k_aug_train.jsonl").read_text()
    assert json.loads(capsys.readouterr().out)["dropped"]["train"] == {
        "equal to test": 0, "near to test": 0,
    }  # fmt: skip
    source = here / "source"
    source.mkdir()
    _lines(source, [_LINES[0], f"{_TRAIN[2]}||#### 3"])
    assert _run("train", "--source", source, dev=0) == 0
    assert Path("data/processed/gsm8k_aug_train.jsonl").read_text() == hub


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "no marks",
            "train.txt:2: || stands in it 0 times; expected question||<<..>> <<..>> #### ",
        ),
        ("a||b||c #### 1", "train.txt:2: || stands in it 2 times"),
        ("a||<<1+1=2>> 2", "train.txt:2: #### stands in it 0 times"),
        ("a||<<1+1=2>> ####", "train.txt:2: field 'answer' is ''; expected a text, not blank"),
        (" ||<<1+1=2>> #### 2", "train.txt:2: field 'question' is ''"),
        (b"a\xff||<<1+1=2>> #### 2", "train.txt:2: byte 2 is not UTF-8"),
    ],
)
def test_a_bad_line_is_named_and_leaves_everything_as_it_was(here, capsys, line, message):
    file = _lines(here, [_LINES[0], line])
    before = sorted(here.rglob("*"))
    assert _run("train", "--source", file) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and message in errors[0]
    assert sorted(here.rglob("*")) == before


def test_other_mistakes_end_in_one_line(here, capsys):
    assert _run("test") == 2
    assert "gsm8k_aug has no test problems; expected train" in capsys.readouterr().err
    (here / "data/processed/gsm8k_test.jsonl").unlink()
    assert _run("train", "--source", _lines(here, _LINES)) == 2
    error = capsys.readouterr().err
    assert "gsm8k_test.jsonl is not there" in error and "download_data.sh gsm8k" in error
    empty = here / "empty.txt"
    empty.write_text("\n")
    assert "is empty; expected lines of question||" in _message(empty, capsys)


def _message(file, capsys):
    with pytest.raises(Exception) as caught:
        list(prepare.SOURCES["gsm8k_aug"].read_file(file))
    return str(caught.value)
