"""Arithmetic word problems: true equations, the promised difficulty, disjoint splits."""

import re
from collections import Counter

import pytest
from ml_collections import ConfigDict

from reoac_jax.system.errors import InputError
from reoac_jax.tasks import make_task, stories
from reoac_jax.tasks.equations import annotations, equation_holds

_GRADER = ConfigDict(dict(workers=1, timeout=5.0))


def _task(**changes):
    options = dict(
        name="arithmetic", steps=(1, 4), max_number=999, distractors=0.2,
        train_size=2000, dev_size=100, test_size=300, seed=0,
    )  # fmt: skip
    return make_task(ConfigDict(options | changes), _GRADER)


@pytest.mark.parametrize(("steps", "max_number"), [((1, 1), 50), ((2, 3), 10), ((1, 4), 999)])
def test_references_are_right_and_keep_to_the_difficulty(steps, max_number):
    task = _task(steps=steps, max_number=max_number, test_size=10)
    problems = task.problems("train")
    references = [task.reference_text(problem) for problem in problems]
    assert all(grade.correct for grade in task.grade(references, problems))
    seen_steps, signs = set(), Counter()
    for problem, reference in zip(problems, references, strict=True):
        equations = annotations(reference)
        assert all(map(equation_holds, equations))
        seen_steps.add(len(equations))
        signs.update(re.findall(r"\d([-+*/])\d", reference))
        numbers = [int(n) for n in re.findall(r"\d+", reference)]
        assert 1 <= min(numbers) and max(numbers) <= max_number
        # Each result is the next equation's first operand, and the last one the answer.
        results = [equation.split("=")[1] for equation in equations]
        firsts = [re.match(r"\d+", equation)[0] for equation in equations[1:]]
        assert firsts == results[:-1] and reference.endswith(f" #### {results[-1]}")
        assert problem.target_answer == results[-1]
    assert seen_steps == set(range(steps[0], steps[1] + 1))
    assert all(signs[sign] > 50 for sign in "+-*/")


def test_prompts_name_the_numbers_that_the_equations_need():
    for problem in _task(distractors=0.0).problems("train"):
        chain = annotations(problem.metadata["solution"])
        operands = [re.split(r"[-+*/=]", equation)[:2] for equation in chain]
        needed = [operands[0][0], *(right for _, right in operands)]
        written = problem.prompt.replace("twice", "2").replace("half", "2")
        assert sorted(needed) == sorted(re.findall(r"\d+", written))


def test_distractors_add_numbers():
    def count(share):
        problems = _task(distractors=share).problems("train")
        return sum(len(re.findall(r"\d+", problem.prompt)) for problem in problems)

    assert count(0.0) < count(0.3) < count(0.9)


@pytest.mark.slow
def test_splits_share_no_computation():
    train = {p.metadata["solution"] for p in _task(train_size=20000, seed=1).problems("train")}
    test = [p.metadata["solution"] for p in _task().problems("test")]
    assert len(set(test)) == len(test) == 300
    assert not train & set(test)


def test_problems_depend_on_the_seed_only():
    assert _task().problems("test") == _task(train_size=5).problems("test")
    assert _task().problems("test") != _task(seed=1).problems("test")


def test_wrong_answers_are_wrong():
    problems = _task().problems("train")
    task = _task()
    wrong = [
        task.reference_text(problem).rpartition(" ")[0] + f" {int(problem.target_answer) + 1}"
        for problem in problems
    ]
    assert not any(grade.correct for grade in task.grade(wrong, problems))
    shaped = task.grade(wrong, problems, mode="shaped")
    assert all(grade.reward == pytest.approx(0.5) for grade in shaped)


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match=r"task.steps is \(3, 2\)"):
        _task(steps=(3, 2))
    with pytest.raises(InputError, match="task.test_size is 5000"):
        _task(steps=(1, 1), max_number=10, test_size=5000).problems("test")


def test_words_cover_every_story():
    known = set(stories.words())
    for problem in _task(train_size=5000, distractors=0.5).problems("train"):
        assert set(re.findall(r"[A-Za-z]+", problem.prompt)) <= known


@pytest.mark.slow
def test_development_problems_are_apart_from_all_others():
    task = _task()
    dev, test = ({p.metadata["solution"] for p in task.problems(s)} for s in ("dev", "test"))
    train = {p.metadata["solution"] for p in _task(train_size=20000).problems("train")}
    assert dev and not dev & (test | train)
