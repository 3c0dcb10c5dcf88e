"""Countdown: reach a target with the given numbers, each used exactly once.

A problem reads `3 7 12 = 33 ?` (with three numbers six tokens, every number one), an answer
`7 * 3 = 21 , 21 + 12 = 33 ;` (12 tokens): one equation a step, each on two numbers that are given
or were reached before and are still unused. Problems are generated from a seed. With `ordered`
operands are written larger first, so that one solution has one text; without it those of `+` and
`*` stand in either order, and tokens that are written at the same time must agree on it.

With `backwards` every second problem reads `33 = 3 7 12 ?`, and wants the same written from the
target on: `33 = 21 + 12 , 21 = 7 * 3 ;`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError
from reoac_jax.tasks.countdown_problems import SIGNS, draw_problems
from reoac_jax.tasks.equation_notation import EquationNotation
from reoac_jax.tasks.splits import GENERATOR_OPTIONS, TRAIN_PARTS
from reoac_jax.tasks.task import Grade, Problem, RewardMode, Split, Task

_Row = tuple[list[int], list[str], list[list[int]]]  # given numbers, signs, equations

_NUMBER = r"-?\s?[0-9]{1,12}(?:\.[0-9]{1,12})?"
_SIDES = rf"(?P<left>{_NUMBER})\s*(?P<sign>[-+*/])\s*(?P<right>{_NUMBER})"
_RESULT = rf"(?P<result>{_NUMBER})"
_EQUATION = re.compile(rf"\s*{_SIDES}\s*=\s*{_RESULT}\s*")
_BACKWARDS_EQUATION = re.compile(rf"\s*{_RESULT}\s*=\s*{_SIDES}\s*")
_PROMPT = re.compile(
    r"(?P<numbers>(?:[0-9]{1,12}\s+){2,})=\s*(?P<target>[0-9]{1,12})\s*\?"
    r"|(?P<first>[0-9]{1,12})\s*=\s*(?P<others>(?:[0-9]{1,12}\s+){2,})\?"
)
_LONGEST = 2000  # characters of a text that are looked at


# What the generator of a split is seeded with.
_STREAMS: dict[Split, int] = {"train": 0, "test": 1, "dev": 2}


class Countdown(Task):
    """Seeded countdown problems with three to six numbers, all alike or mixed in equal parts.

    Raises `InputError` where problems are to have more numbers at least than at most.
    """

    name: ClassVar[str] = "countdown"
    grader_version: ClassVar[str] = "countdown-1"
    has_notation: ClassVar[bool] = True
    notation: ClassVar[EquationNotation] = EquationNotation(annotated=False, states_target=True)
    options: ClassVar[dict[str, Option]] = {
        "numbers": Option("int", "how many numbers a problem gives", 3, low=3, high=6),
        "most_numbers": Option(
            "int",
            "problems with `numbers` to so many are mixed in equal parts; 0: all have `numbers`",
            0,
            low=0,
            high=6,
            before=0,
        ),
        "max_number": Option("int", "largest given number", 25, low=2, high=99),
        "max_intermediate": Option("int", "largest result of an equation", 120, low=2, high=999),
        "ordered": Option("bool", "the larger operand of + and * is always written first", False),
        "backwards": Option(
            "bool",
            "every second problem is asked and answered from the target on: `33 = 3 7 12 ?`, "
            "`33 = 21 + 12 , 21 = 7 * 3 ;`",
            False,
            before=False,
        ),
        "train_part": Option(
            "str",
            "training problems drawn: all, those of supervised fine-tuning, or new ones after it",
            "all",
            choices=TRAIN_PARTS,
        ),
        **GENERATOR_OPTIONS,
    }

    def __init__(self, task: ConfigDict, grader: ConfigDict) -> None:
        most = task.most_numbers or task.numbers
        if most < task.numbers:
            raise InputError(
                f"task.most_numbers is {most}; expected 0, or at least task.numbers, {task.numbers}"
            )
        self._task = task
        self._counts = range(task.numbers, most + 1)

    def problems(self, split: Split) -> list[Problem]:
        """The split's problems; those of `test` are distinct, the others may repeat.

        Where numbers are mixed, problems with so many take turns, fewest first, and with n numbers
        they are those of a set in which all have n.

        Raises `InputError` if there are fewer distinct test problems than `test_size`.
        """
        kinds = len(self._counts)
        size = self._task[f"{split}_size"]
        parts = [
            self._rows(split, numbers, len(range(turn, size, kinds)))
            for turn, numbers in enumerate(self._counts)
        ]
        problems = []
        for index in range(size):
            turn, kind = divmod(index, kinds)
            backwards = self._task.backwards and turn % 2 == 1
            problems.append(_problem(f"countdown/{split}/{index}", *parts[kind][turn], backwards))
        return problems

    def _rows(self, split: Split, numbers: int, size: int) -> list[_Row]:
        """`size` problems with so many numbers."""
        task = self._task
        drawn = draw_problems(
            np.random.default_rng([task.seed, numbers, _STREAMS[split]]),
            size,
            split,
            task.train_part,
            numbers=numbers,
            max_number=task.max_number,
            max_intermediate=task.max_intermediate,
            ordered=task.ordered,
        )
        if len(drawn.numbers) < size:
            most = len(drawn.numbers) * len(self._counts)
            raise InputError(
                f"task.{split}_size is {task[f'{split}_size']}; expected at most about {most} with "
                f"{numbers} numbers up to {task.max_number}"
            )
        signs = SIGNS[drawn.signs].tolist()
        return list(zip(drawn.numbers.tolist(), signs, drawn.equations.tolist(), strict=True))

    def reference_text(self, problem: Problem) -> str:
        """The solution by which the problem was generated; there may be others."""
        return problem.metadata["solution"]

    def grade(
        self, texts: Sequence[str], problems: Sequence[Problem], mode: RewardMode = "strict"
    ) -> list[Grade]:
        """Grades by exact evaluation.

        Right is a text that is nothing but equations joined by `,` and closed by `;` (which may
        be missing), all exactly true, each operand an unused given number or earlier result, the
        last result the target, with every number used exactly once. Where it is asked backwards
        each equation begins with its result, and the first one is what is the last elsewhere.

        The shaped reward of a wrong text is at most 0.5: 0.1 if it is nothing but equations, 0.2
        times the share of its equations that are true on unused numbers (out of as many as are
        due), 0.1 if the given numbers were all used by such equations, 0.1 if the last result is
        the target.
        """
        return [_grade(text, problem, mode) for text, problem in zip(texts, problems, strict=True)]

    def extract(self, texts: Sequence[str]) -> list[str | None]:
        found = []
        for text in texts:
            last = _follow(text, ()).last
            if last is None and self._task.backwards:
                last = _follow(text, (), backwards=True).last
            found.append(None if last is None else str(last))
        return found

    @classmethod
    def checks(cls, prompt: str, text: str) -> bool:
        """Whether the text is a right answer: the prompt says all that decides it."""
        stated = list(_PROMPT.finditer(prompt))
        if not stated:
            return False
        asked = stated[-1]
        backwards = asked["first"] is not None
        given, target = asked["others"] or asked["numbers"], asked["first"] or asked["target"]
        work = _follow(text, [int(n) for n in given.split()], backwards)
        return _solves(work, Fraction(target))

    def close(self) -> None:
        pass


def _problem(
    name: str,
    numbers: list[int],
    signs: list[str],
    equations: list[list[int]],
    backwards: bool = False,
) -> Problem:
    target, given = equations[-1][2], " ".join(map(str, numbers))
    sides = [
        (f"{left} {sign} {right}", str(result))
        for sign, (left, right, result) in zip(signs, equations, strict=True)
    ]
    if backwards:
        prompt, sides = f"{target} = {given} ?", [pair[::-1] for pair in reversed(sides)]
    else:
        prompt = f"{given} = {target} ?"
    solution = f"{' , '.join(' = '.join(pair) for pair in sides)} ;"
    metadata: dict[str, Any] = {"numbers": numbers, "solution": solution}
    if backwards:
        metadata["backwards"] = True
    return Problem(name, prompt, str(target), Countdown.name, metadata)


def _grade(text: str, problem: Problem, mode: RewardMode) -> Grade:
    metadata = problem.metadata
    work = _follow(text, metadata["numbers"], metadata.get("backwards", False))
    target = Fraction(problem.target_answer)
    correct, reached = _solves(work, target), work.last == target
    reward = float(correct)
    if mode == "shaped" and not correct:
        share = work.true / max(work.due, work.written)
        reward = 0.1 * work.clean + 0.2 * share + 0.1 * work.all_used + 0.1 * reached
    return Grade(correct, reward, None if work.last is None else str(work.last), str(target))


class _Work(NamedTuple):
    """What a text does with the given numbers.

    Attributes:
      clean: the text is nothing but well-formed equations.
      written: equations it holds, well-formed or not.
      true: equations that are exactly true and take unused numbers.
      due: equations that a solution has.
      all_used: every given number was used by such an equation.
      last: result of the last equation, or of the first one where it was asked backwards, if that
        one is well-formed.
    """

    clean: bool
    written: int
    true: int
    due: int
    all_used: bool
    last: Fraction | None


def _follow(text: str, numbers: Sequence[int], backwards: bool = False) -> _Work:
    text = text.strip()
    short = len(text) <= _LONGEST
    parts = text[:_LONGEST].removesuffix(";").split(",")
    equation = _EQUATION
    if backwards:
        equation, parts = _BACKWARDS_EQUATION, parts[::-1]
    unused_given = Counter(map(Fraction, numbers))
    unused_results: Counter[Fraction] = Counter()
    clean, true, last = short, 0, None
    for part in parts:
        match = equation.fullmatch(part)
        if match is None:
            clean, last = False, None
            continue
        left, right, last = (
            Fraction("".join(match[name].split())) for name in ("left", "right", "result")
        )
        operands = Counter([left, right])
        if not operands <= unused_given + unused_results:
            continue
        if _value(left, match["sign"], right) != last:
            continue
        true += 1
        # Results go first: otherwise an equal given number could be left over unseen.
        from_results = operands & unused_results
        unused_results -= from_results
        unused_given -= operands - from_results
        unused_results[last] += 1
    return _Work(clean, len(parts), true, len(numbers) - 1, not unused_given, last)


def _solves(work: _Work, target: Fraction) -> bool:
    return (
        work.clean
        and work.true == work.written == work.due
        and work.all_used
        and work.last == target
    )


def _value(left: Fraction, sign: str, right: Fraction) -> Fraction | None:
    if sign == "/":
        return left / right if right else None
    return {"+": left + right, "-": left - right, "*": left * right}[sign]
