"""GSM8K grading: all published answers, in three styles, right and wrong."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from reoac_jax.system.errors import InputError
from reoac_jax.tasks import Problem, make_task
from reoac_jax.tasks.answers import final_answer
from reoac_jax.tasks.dataset import RawRow, read_rows
from reoac_jax.tasks.families.gsm8k import (
    ANSWER_STYLES,
    Gsm8k,
    grade_numbers,
    problem_from_row,
    styled_answer,
)

_GRADER = ConfigDict(dict(workers=1, timeout=5.0))
_ANSWER = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72"
)


def _problem(target="72", solution=_ANSWER):
    return Problem("gsm8k/train/0", "How many clips?", target, "gsm8k", {"solution": solution})


def _reward(text, mode="shaped"):
    return grade_numbers([text], [_problem()], mode)[0].reward


@pytest.fixture(scope="module")
def published(shared_data):
    return [
        problem_from_row(row, split)
        for split in ("train", "test")
        for row in read_rows(shared_data / "gsm8k" / f"{split}.jsonl")
    ]


def test_styles():
    assert styled_answer(_ANSWER, "full") == _ANSWER
    assert styled_answer(_ANSWER, "equations") == "<<48/2=24>> <<48+24=72>> #### 72"
    assert styled_answer(_ANSWER, "final") == "#### 72"


@pytest.mark.slow
@pytest.mark.parametrize("style", ANSWER_STYLES)
def test_every_published_answer_is_right_for_its_own_number_only(published, style):
    assert len(published) == 8792
    texts = [styled_answer(problem.metadata["solution"], style) for problem in published]
    assert all(grade.correct for grade in grade_numbers(texts, published, "strict"))
    values = [final_answer(problem.target_answer).value for problem in published]
    for change in (lambda v: v + 1, lambda v: 10 * v + 1, lambda v: v + Fraction(1, 1000)):
        changed = [
            Problem(problem.id, problem.prompt, str(change(value)), "gsm8k", problem.metadata)
            for problem, value in zip(published, values, strict=True)
        ]
        assert not any(grade.correct for grade in grade_numbers(texts, changed, "strict"))
    for shift in (1, 1234):
        others = published[shift:] + published[:shift]
        grades = grade_numbers(texts, others, "strict")
        for problem, other, grade in zip(published, others, grades, strict=True):
            same = problem.target_answer.replace(",", "") == other.target_answer.replace(",", "")
            assert grade.correct == same


def test_published_target_may_be_the_whole_answer():
    assert grade_numbers(["#### 72"], [_problem(target=_ANSWER)], "strict")[0].correct


def test_shaped_reward_grows_with_what_is_right():
    nothing, marked = _reward("no idea"), _reward("#### 71")
    false_equation = _reward("<<48/2=25>> #### 71")
    unrelated = _reward("<<1+1=2>> #### 71")
    half = _reward("<<48/2=24>> #### 71")
    most = _reward("<<48/2=24>> <<48+24=72>> #### 71")
    assert nothing == 0 < marked == false_equation < unrelated < half < most <= 0.5
    assert _reward("<<48/2=24>> #### 72") == 1.0
    assert _reward("<<48/2=24>> #### 71", mode="strict") == 0.0


@pytest.mark.parametrize("name", ["gsm8k_targets_to_read", "gsm8k_targets_to_refuse"])
def test_targets_are_read_as_texts_are_or_refused(name):
    lines = (Path(__file__).parent / "cases" / f"{name}.jsonl").read_text(encoding="utf-8")
    for number, line in enumerate(lines.splitlines()):
        case = json.loads(line)
        row = RawRow(case, f"train.jsonl:{number + 1}", number)
        if name.endswith("refuse"):
            with pytest.raises(
                InputError, match=rf"train.jsonl:{number + 1}: .*exactly one number"
            ):
                problem_from_row(row, "train")
            continue
        problem = problem_from_row(row, "train")
        assert grade_numbers([f"#### {case['target']}"], [problem], "strict")[0].correct
        assert grade_numbers([case["answer"]], [problem], "strict")[0].correct


def test_a_processed_target_that_is_not_one_number_is_refused():
    with pytest.raises(InputError, match="expected exactly one number"):
        grade_numbers(["#### 5"], [_problem(target="5 hours 30 minutes")], "strict")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_answer": "5 hours 30 minutes"}, "'5 hours 30 minutes'; expected exactly one"),
        ({"metadata": {}}, "has no text metadata.solution; expected the published answer"),
    ],
)
def test_a_processed_problem_that_cannot_be_used_is_named_with_its_line(tmp_path, changes, message):
    rows = [dataclasses.asdict(_problem()) | {"id": f"gsm8k/test/{i}"} for i in range(3)]
    rows[2] |= changes
    path = tmp_path / "test.jsonl"
    path.write_text("\n" + "".join(json.dumps(row) + "\n" for row in rows))
    settings = dict(name="gsm8k", train_file="", dev_size=0, dev_file="none", test_file=str(path))
    task = make_task(ConfigDict(settings | {"answer_style": "final"}), _GRADER)
    with pytest.raises(InputError) as caught:
        task.problems("test")
    line = str(caught.value)
    assert line.startswith(f"{path}:4: problem gsm8k/test/2 has ") and message in line


def test_a_row_without_an_answer_mark_is_refused():
    row = RawRow({"question": "q", "answer": "it is 5"}, "train.jsonl:3", 2)
    with pytest.raises(InputError, match=r"train.jsonl:3: 'answer' ends in"):
        problem_from_row(row, "train")


def test_processed_files_through_the_task(tmp_path):
    rows = [problem_from_row(RawRow({"question": "q?", "answer": _ANSWER}, "x", 0), "test")]
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({
        "id": rows[0].id, "prompt": "q?", "target_answer": "72", "task": "gsm8k",
        "metadata": {"solution": _ANSWER},
    }) + "\n")  # fmt: skip
    task = make_task(
        ConfigDict(
            dict(
                name="gsm8k",
                train_file="none",
                dev_size=0,
                dev_file="none",
                test_file=str(path),
                answer_style="final",
            )
        ),
        _GRADER,
    )
    assert task.problems("test") == rows
    assert task.reference_text(rows[0]) == "#### 72"
    with pytest.raises(InputError, match="download_data.sh gsm8k"):
        task.problems("train")


def test_unknown_task_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'gsm8k'"):
        make_task(ConfigDict(dict(name="gms8k")), _GRADER)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<<48/2=24>> <<48+24=72>> #### 72", True),
        ("<<48/2=24>> <<48+24=73>> #### 73", False),
        ("<<48/2=24>> <<48+24=72>> #### 24", False),
        ("<<48/2=>> <<48+24=72>> #### 72", False),
        ("<<48/2=24>> <<48+24=72>>", True),  # its last number is read as its answer
        ("#### 72", False),
        ("", False),
    ],
)
def test_equations_are_checked_without_a_reference(text, right):
    assert Gsm8k.checks("no matter", text) is right
