"""Countdown: the generator's promises, and a verifier that tells right answers from wrong ones."""

import itertools
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from reoac_jax.system.errors import InputError
from reoac_jax.tasks import Grade, Problem, make_task
from reoac_jax.tasks.countdown_problems import draw_problems, problem_keys
from reoac_jax.tasks.families.countdown import Countdown

_GRADER = ConfigDict(dict(workers=1, timeout=5.0))


def _task(**changes):
    options = dict(
        name="countdown", numbers=3, most_numbers=0, max_number=15, max_intermediate=120,
        ordered=True, backwards=False, train_part="all", train_size=3000, dev_size=200,
        test_size=500, seed=0,
    )  # fmt: skip
    return make_task(ConfigDict(options | changes), _GRADER)


_TASK = _task()
_PROBLEM = Problem(
    "countdown/test/0", "3 7 12 = 33 ?", "33", "countdown", {"numbers": [3, 7, 12], "solution": ""}
)


def _grade(text, mode="strict", problem=_PROBLEM):
    return _TASK.grade([text], [problem], mode)[0]


def _check_by_hand(text, numbers, target):
    """A second verifier, for texts of well-spaced tokens only: simulates the pool of numbers."""
    pool = [Fraction(number) for number in numbers]
    words = text.split()
    if words[-1:] == [";"]:
        words = words[:-1]
    while words:
        if len(words) < 5 or (len(words) > 5 and (words[5] != "," or len(words) < 11)):
            return False
        left, sign, right, equals, result = words[:5]
        words = words[6:]
        if equals != "=" or sign not in "+-*/" or len(sign) != 1:
            return False
        if not (left.isdigit() and right.isdigit() and result.isdigit()):
            return False
        for operand in (left, right):
            if Fraction(operand) not in pool:
                return False
            pool.remove(Fraction(operand))
        if sign == "/":
            if int(right) == 0 or Fraction(int(left), int(right)) != int(result):
                return False
        elif {"+": int(left) + int(right), "-": int(left) - int(right),
              "*": int(left) * int(right)}[sign] != int(result):  # fmt: skip
            return False
        pool.append(Fraction(result))
    return pool == [Fraction(target)]


def test_numbers_are_mixed_in_equal_parts():
    mixed = _task(most_numbers=5, dev_size=100).problems("dev")
    counts = [len(problem.metadata["numbers"]) for problem in mixed]
    assert counts == ([3, 4, 5] * 34)[:100]
    assert len({problem.id for problem in mixed}) == 100
    for turn, numbers in enumerate((3, 4, 5)):
        alone = _task(numbers=numbers, dev_size=len(mixed[turn::3])).problems("dev")
        assert [p.prompt for p in mixed[turn::3]] == [p.prompt for p in alone]
    with pytest.raises(InputError, match=r"most_numbers is 3; expected 0, or at least .* 4"):
        _task(numbers=4, most_numbers=3)
    with pytest.raises(InputError, match=r"about \d+ with 3 numbers up to 4"):
        _task(most_numbers=4, max_number=4, test_size=3000).problems("test")


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [3, 4, 5, 6])
def test_problems_are_solved_by_their_reference(numbers):
    task = _task(numbers=numbers)
    for split in ("train", "dev", "test"):
        problems = task.problems(split)
        references = [task.reference_text(problem) for problem in problems]
        assert all(grade.correct for grade in task.grade(references, problems))
        for problem, reference in zip(problems, references, strict=True):
            given_numbers = problem.metadata["numbers"]
            assert _check_by_hand(reference, given_numbers, problem.target_answer)
            assert problem.prompt.split() == [
                *map(str, given_numbers), "=", problem.target_answer, "?",
            ]  # fmt: skip
            assert len(reference.split()) == 6 * (numbers - 1)
            assert all(1 <= number <= 15 for number in given_numbers)
            results = [int(part.split("=")[1]) for part in reference.strip(" ;").split(",")]
            assert all(1 <= result <= 120 for result in results)


def _key(problem):
    return tuple(sorted(problem.metadata["numbers"])), problem.target_answer


@pytest.mark.slow
def test_backwards_every_second_problem_of_each_kind_is_asked_from_the_target_on():
    sizes = dict(train_size=60, dev_size=60, test_size=60, most_numbers=5, max_intermediate=99)
    plain, turned = _task(**sizes), _task(**sizes, backwards=True)
    count = 0
    for before, after in zip(plain.problems("test"), turned.problems("test"), strict=True):
        numbers, target = before.metadata["numbers"], before.target_answer
        solution = after.metadata["solution"]
        assert (after.metadata["numbers"], after.target_answer) == (numbers, target)
        if "backwards" not in after.metadata:
            assert after == before
            other = turned_text(solution)
        else:
            count += 1
            assert after.prompt == f"{target} = {' '.join(map(str, numbers))} ?"
            assert turned_text(solution) == before.metadata["solution"]
            other = before.metadata["solution"]
        # Right is what is asked for, and not the same written the other way.
        assert turned.grade([solution], [after])[0] == Grade(True, 1.0, target, target)
        assert not turned.grade([other], [after])[0].correct
        assert Countdown.checks(after.prompt, solution)
        assert Countdown.checks(f"{before.prompt} {solution} {after.prompt}", solution)
        assert not Countdown.checks(after.prompt, other)
        assert turned.extract([solution, other]) == [target, target]
        assert _TASK.extract([solution]) == [None if "backwards" in after.metadata else target]
    assert count == 30
    lengths = Counter(
        len(p.metadata["numbers"]) for p in turned.problems("test") if "backwards" in p.metadata
    )
    assert set(lengths.values()) == {10}


def turned_text(text):
    """A solution written the other way."""
    equations = text.removesuffix(" ;").split(" , ")
    return " , ".join(" = ".join(e.split(" = ")[::-1]) for e in equations[::-1]) + " ;"


def test_backwards_a_wrong_text_is_wrong():
    problem = Problem(
        "countdown/test/0", "33 = 3 7 12 ?", "33", "countdown",
        {"numbers": [3, 7, 12], "solution": "", "backwards": True},
    )  # fmt: skip
    for text, right in {
        "33 = 21 + 12 , 21 = 7 * 3 ;": True,
        "33=12+21,21=3*7": True,
        "33 = 21 + 12 , 21 = 7 * 4 ;": False,
        "21 = 7 * 3 , 33 = 21 + 12 ;": False,  # uses what is reached only behind it
        "34 = 21 + 12 , 21 = 7 * 3 ;": False,
        "33 = 21 + 12 ;": False,
        "33 = 21 + 12 , 7 * 3 = 21 ;": False,
    }.items():
        assert _grade(text, problem=problem).correct is right
        assert Countdown.checks(problem.prompt, text) is right


def test_splits_are_disjoint_for_any_seeds_and_sizes():
    train = {
        _key(p) for seed in (0, 1) for p in _task(seed=seed, train_size=20000).problems("train")
    }
    test = [_key(p) for p in _task(seed=0).problems("test")]
    other_test = {_key(p) for p in _task(seed=1, test_size=900).problems("test")}
    assert len(set(test)) == len(test) == 500
    assert not train & (set(test) | other_test)
    assert 0.1 < len(other_test) / len(train) < 0.25


@pytest.mark.slow
def test_development_problems_are_apart_from_all_others():
    """Whatever the part of the training problems, and as hard as the test problems."""
    task = _task(dev_size=300, test_size=300)
    dev, test = ([_key(p) for p in task.problems(split)] for split in ("dev", "test"))
    train = {_key(p) for p in _task(train_size=20000).problems("train")}
    assert len(dev) == 300
    assert not set(dev) & (set(test) | train)
    # What is drawn often is as common in both.
    assert abs(np.mean([float(t) for _, t in dev]) - np.mean([float(t) for _, t in test])) < 5


@pytest.mark.slow
def test_parts_of_the_training_problems_are_disjoint():
    parts = {
        name: {_key(p) for p in _task(train_part=name, train_size=20000).problems("train")}
        for name in ("all", "supervised", "reserved")
    }
    assert not parts["supervised"] & parts["reserved"]
    assert len(parts["all"] - parts["supervised"] - parts["reserved"]) < 0.05 * len(parts["all"])
    assert 0.55 < len(parts["reserved"]) / len(parts["supervised"]) < 0.8


def test_problems_depend_on_the_seed_only():
    assert _task().problems("test") == _task(train_size=1).problems("test")
    assert _task().problems("train") != _task(seed=1).problems("train")


def test_too_many_test_problems_are_refused():
    with pytest.raises(InputError, match="task.test_size is 1000"):
        _task(max_number=3, max_intermediate=9, test_size=1000).problems("test")


def test_keys_ignore_order_and_tell_problems_apart():
    numbers = np.array(list(itertools.product(range(1, 5), repeat=3)))
    for target in (7, 8):
        keys = problem_keys(numbers, np.full(len(numbers), target))
        assert len(np.unique(keys)) == len({tuple(sorted(row)) for row in numbers.tolist()})
    both = [problem_keys(numbers, np.full(len(numbers), target)) for target in (7, 8)]
    assert not np.intersect1d(*both).size


def test_every_operator_occurs():
    drawn = draw_problems(
        np.random.default_rng(0), 2000, "train", numbers=3, max_number=15, max_intermediate=120,
        ordered=True,
    )  # fmt: skip
    shares = np.bincount(drawn.signs.ravel(), minlength=4) / drawn.signs.size
    assert shares.min() > 0.03


def test_order_of_operands():
    ordered, free = (_task(ordered=value).problems("train") for value in (True, False))
    texts = [problem.metadata["solution"] for problem in free]
    assert all(grade.correct for grade in _task().grade(texts, free))
    assert [problem.prompt for problem in ordered] == [problem.prompt for problem in free]
    for problems, low, high in ((ordered, 0.0, 0.0), (free, 0.4, 0.5)):
        equations = [e.split() for p in problems for e in p.metadata["solution"][:-1].split(",")]
        symmetric = [e for e in equations if e[1] in "+*"]
        smaller_left = [int(e[0]) < int(e[2]) for e in symmetric]
        assert low <= np.mean(smaller_left) <= high  # equal operands keep it below one half
        assert all(int(e[0]) >= int(e[2]) for e in equations if e[1] in "-/")


@pytest.mark.parametrize(
    "text",
    [
        "3 * 7 = 21 , 21 + 12 = 33 ;",
        "7*3=21,12+21=33",
        " 3 * 7 = 21 , 21 + 12 = 33 ; \n",
    ],
)
def test_right(text):
    grade = _grade(text)
    assert grade.correct and grade.reward == 1.0 and grade.extracted == grade.expected == "33"


def test_negative_and_broken_intermediate_results_may_be_used():
    negative = Problem("a", "p", "5", "countdown", {"numbers": [3, 7, 9]})
    assert _grade("3 - 7 = -4 , - 4 + 9 = 5 ;", problem=negative).correct
    broken = Problem("a", "p", "7", "countdown", {"numbers": [7, 2, 2]})
    assert _grade("7 / 2 = 3.5 , 3.5 * 2 = 7 ;", problem=broken).correct


@pytest.mark.parametrize(
    "text",
    [
        "",
        ";",
        "33",
        "3 * 7 = 21 , 21 + 12 = 33 ; 33",  # junk behind the end
        "3 * 7 = 21 , 21 + 12 = 33 ; ;",
        "so 3 * 7 = 21 , 21 + 12 = 33 ;",
        "3 * 7 = 21 ; 21 + 12 = 33 ;",
        "3 * 7 = 21 , 21 + 12 = 33 ,",
        "3 * 7 = 22 , 21 + 12 = 33 ;",  # false
        "3 * 7 = 21 , 21 + 12 = 34 ;",
        "21 + 12 = 33 ;",  # 21 is not given
        "3 * 7 = 21 , 12 + 21 = 33 , 33 * 1 = 33 ;",  # 1 is not given
        "3 * 7 = 21 , 3 + 12 = 15 , 21 + 15 = 36 ;",  # 3 used twice
        "12 - 3 = 9 , 9 + 7 = 16 ;",  # another target
        "12 * 3 = 36 , 36 - 3 = 33 ;",  # 7 not used
        "3 / 0 = 0 , 21 + 12 = 33 ;",
        "3 ** 7 = 21 , 21 + 12 = 33 ;",
        "__import__ ( 'os' )",
        "9" * 10000,
        "1 + 1 = 2 , " * 3000,
    ],
)
def test_wrong(text):
    grade = _grade(text)
    assert not grade.correct and grade.reward == 0.0
    assert 0.0 <= _grade(text, "shaped").reward <= 0.5


def test_equal_numbers_are_counted():
    problem = Problem("a", "p", "16", "countdown", {"numbers": [4, 4, 8]})
    assert _grade("4 + 4 = 8 , 8 + 8 = 16 ;", problem=problem).correct
    assert not _grade("8 + 8 = 16 ;", problem=problem).correct
    single = Problem("a", "p", "16", "countdown", {"numbers": [4, 5, 8]})
    assert not _grade("4 + 4 = 8 , 8 + 8 = 16 ;", problem=single).correct


def test_shaped_reward_grows_with_what_is_right():
    texts = ["x", "1 + 1 = 3 ;", "3 * 7 = 21 ;", "3 * 7 = 21 , 21 - 12 = 9 ;"]
    rewards = [_grade(text, "shaped").reward for text in texts]
    assert rewards == sorted(set(rewards)) and rewards[0] == 0 and rewards[-1] <= 0.5
    assert _grade("3 * 7 = 21 , 21 + 12 = 33 ;", "shaped").reward == 1.0


@given(st.data())
def test_changed_answers_are_judged_as_the_second_verifier_does(data):
    problem = data.draw(st.sampled_from(_PROBLEMS))
    words = _TASK.reference_text(problem).split()
    vocabulary = [*"+-*/=,;", *map(str, problem.metadata["numbers"]), problem.target_answer, *words]
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(words) - 1))
        words[place] = data.draw(st.sampled_from(vocabulary))
    text = " ".join(words)
    numbers = problem.metadata["numbers"]
    assert _grade(text, problem=problem).correct == _check_by_hand(
        text, numbers, problem.target_answer
    )


@given(st.text(alphabet="0123456789+-*/=,;. ", max_size=80))
def test_any_text_is_graded_without_a_crash(text):
    grade = _grade(text, "shaped")
    assert 0.0 <= grade.reward <= 1.0
    assert grade.correct == (grade.reward == 1.0)


_PROBLEMS = _TASK.problems("test")[:50]


def test_numbers_use_is_a_multiset():
    """The references use exactly the given numbers: what they consume minus what they make."""
    for problem in _PROBLEMS:
        words = _TASK.reference_text(problem).split()
        consumed = Counter(words[0::6]) + Counter(words[2::6])
        made = Counter(words[4::6])
        made[problem.target_answer] -= 1
        assert consumed - made == Counter(map(str, problem.metadata["numbers"]))


@pytest.mark.parametrize(
    ("prompt", "text", "right"),
    [
        ("3 7 12 = 33 ?", "7 * 3 = 21 , 21 + 12 = 33 ;", True),
        ("3 7 12 = 33 ?", "21 + 12 = 33 , 7 * 3 = 21 ;", False),  # before it was reached
        ("3 7 12 = 33 ?", "7 * 3 = 21 , 21 + 13 = 34 ;", False),
        ("3 7 12 = 33 ?", "7 * 3 = 21", False),
        ("1 2 3 = 6 ? 1 + 2 = 3 , 3 + 3 = 6 ; 3 7 12 = 33 ?", "7 * 3 = 21 , 21 + 12 = 33 ;", True),
        ("nothing", "7 * 3 = 21 , 21 + 12 = 33 ;", False),
        ("3 7 12 = 33 ?", "", False),
    ],
)
def test_the_prompt_alone_says_what_is_right(prompt, text, right):
    assert Countdown.checks(prompt, text) is right


def test_what_checks_is_what_grades_as_right():
    task = _task(train_size=1, test_size=30)
    problems = task.problems("test")
    for text in [p.metadata["solution"] for p in problems[:6]]:
        grades = task.grade([text] * 30, problems)
        checked = [Countdown.checks(problem.prompt, text) for problem in problems]
        assert checked == [grade.correct for grade in grades] and any(checked)
