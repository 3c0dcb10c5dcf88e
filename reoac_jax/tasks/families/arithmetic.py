"""Arithmetic: seeded word problems in GSM8K's style, one to four steps, answered in equations.

A problem is a story about one number (`stories`); its answer is written as GSM8K's `equations`
style, `<<48/2=24>> <<48+24=72>> #### 72`, and graded by GSM8K's code. All numbers are whole, from
2 (results from 1) to `max_number`. The chain of equations, without the words around it, decides
the split, so no computation of the test split occurs in training under other names.
"""

import random
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from ml_collections import ConfigDict

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import stories
from reoac_jax.tasks.equation_notation import EquationNotation
from reoac_jax.tasks.families.gsm8k import (
    GRADER_VERSION,
    equations_check,
    extract_numbers,
    grade_numbers,
    styled_answer,
)
from reoac_jax.tasks.splits import GENERATOR_OPTIONS, split_of_text
from reoac_jax.tasks.stories import Sentence
from reoac_jax.tasks.task import Grade, Problem, RewardMode, Split, Task

_LARGEST_FACTOR = 12  # of a multiplication or division
_DOUBLE_SHARE = 0.4  # how often an opening or closing holds a step of its own
_FRUITLESS = 20_000  # draws in a row without a new test problem


class Arithmetic(Task):
    """Seeded word problems of one to four steps."""

    name: ClassVar[str] = "arithmetic"
    grader_version: ClassVar[str] = GRADER_VERSION
    has_notation: ClassVar[bool] = True
    notation: ClassVar[EquationNotation] = EquationNotation(annotated=True, states_target=False)
    options: ClassVar[dict[str, Option]] = {
        "steps": Option("ints", "fewest and most equations of an answer", (1, 2), low=1, high=4),
        "max_number": Option("int", "largest number, given or reached", 200, low=10, high=999),
        "distractors": Option(
            "float", "chance of an irrelevant sentence behind each sentence", 0.1, low=0.0, high=1.0
        ),
        **GENERATOR_OPTIONS,
    }

    def __init__(self, task: ConfigDict, grader: ConfigDict) -> None:
        if len(task.steps) != 2 or task.steps[0] > task.steps[1]:
            raise InputError(
                f"task.steps is {tuple(task.steps)}; expected two numbers, fewest and most"
            )
        self._task = task

    def problems(self, split: Split) -> list[Problem]:
        """The split's problems; the computations of `test` are distinct, others may repeat.

        Raises `InputError` if there are fewer distinct test problems than `test_size`.
        """
        task = self._task
        size = task[f"{split}_size"]
        draw = random.Random(f"arithmetic/{task.seed}/{split}")
        problems: list[Problem] = []
        seen: set[str] = set()
        fruitless = 0
        while len(problems) < size:
            story = _draw_story(draw, tuple(task.steps), task.max_number, task.distractors)
            fruitless += 1
            if fruitless > _FRUITLESS:
                raise InputError(
                    f"task.{split}_size is {size}; expected at most about {len(problems)} with "
                    f"task.steps {tuple(task.steps)} and task.max_number {task.max_number}"
                )
            if split_of_text(story.solution) != split or story.solution in seen:
                continue
            fruitless = 0
            if split == "test":
                seen.add(story.solution)
            problems.append(
                Problem(
                    id=f"arithmetic/{split}/{len(problems)}",
                    prompt=story.prompt,
                    target_answer=story.answer,
                    task=self.name,
                    metadata={"solution": story.solution, "steps": story.steps},
                )
            )
        return problems

    def reference_text(self, problem: Problem) -> str:
        return styled_answer(problem.metadata["solution"], "equations")

    def grade(
        self, texts: Sequence[str], problems: Sequence[Problem], mode: RewardMode = "strict"
    ) -> list[Grade]:
        return grade_numbers(texts, problems, mode)

    def extract(self, texts: Sequence[str]) -> list[str | None]:
        return extract_numbers(texts)

    @classmethod
    def checks(cls, prompt: str, text: str) -> bool:
        return equations_check(text)

    def close(self) -> None:
        pass


class _Story(NamedTuple):
    prompt: str
    solution: str
    answer: str
    steps: int


class _Step(NamedTuple):
    left: int
    sign: str
    right: int
    result: int


def _draw_story(
    draw: random.Random, steps: tuple[int, int], max_number: int, distractors: float
) -> _Story:
    count = draw.randint(*steps)
    hero, he, him = draw.choice(stories.HEROES)
    things, thing = draw.choice(stories.THINGS)
    words = {"name": hero, "he": he, "him": him, "things": things, "thing": thing}
    chain: list[_Step] = []
    sentences: list[str] = []

    def say(sentence: Sentence, **numbers: int) -> None:
        extra = {"other": draw.choice(stories.OTHERS), "extra": draw.choice(stories.EXTRAS)}
        text = sentence.text.format(**words, **extra, **numbers)
        sentences.append(text[0].upper() + text[1:])

    def distract() -> None:
        if draw.random() < distractors:
            say(draw.choice(stories.DISTRACTORS), k=draw.randint(2, min(60, max_number)))

    def change(group: Sequence[Sentence], total: int) -> int:
        """Says one sentence of the group that can follow; returns the number behind it.

        One always can: from 2 to `max_number` (10 or more), 2 can be added or taken away.
        """
        step = None
        while step is None:
            sentence = draw.choice(group)
            step = _draw_step(draw, sentence, total, max_number)
        chain.append(step)
        say(sentence, a=total, k=step.right)
        return step.result

    total = _draw_number(draw, 2, max_number)
    if draw.random() < _DOUBLE_SHARE:
        total = change(stories.DOUBLE_OPENINGS, total)
    else:
        say(draw.choice(stories.OPENINGS), a=total)
    closes_with_step = len(chain) < count and draw.random() < _DOUBLE_SHARE
    while len(chain) < count - closes_with_step:
        distract()
        total = change(stories.MIDDLES, total)
    distract()
    if closes_with_step:
        total = change(stories.DOUBLE_CLOSINGS, total)
    else:
        say(draw.choice(stories.CLOSINGS))
    equations = [f"<<{step.left}{step.sign}{step.right}={step.result}>>" for step in chain]
    solution = " ".join([*equations, f"#### {total}"])
    return _Story(" ".join(sentences), solution, str(total), len(chain))


def _draw_step(
    draw: random.Random, sentence: Sentence, total: int, max_number: int
) -> _Step | None:
    """A step from `total` that the sentence can tell; None if there is none."""
    sign, fixed = sentence.sign, sentence.fixed
    assert sign is not None
    if sign == "+":
        right = _draw_number(draw, 2, max_number - total)
    elif sign == "-":
        right = _draw_number(draw, 2, total - 1)
    else:
        factors = range(2, _LARGEST_FACTOR + 1) if fixed is None else (fixed,)
        legal = [
            factor
            for factor in factors
            if (total * factor <= max_number if sign == "*" else total % factor == 0)
        ]
        right = draw.choice(legal) if legal else 0
    if not right:
        return None
    result = {
        "+": total + right, "-": total - right, "*": total * right, "/": total // right
    }[sign]  # fmt: skip
    return _Step(total, sign, right, result)


def _draw_number(draw: random.Random, low: int, high: int) -> int:
    """A number whose count of digits is drawn first, so that small ones are common; 0 if none."""
    if low > high:
        return 0
    high = min(high, 10 ** draw.randint(len(str(low)), len(str(high))) - 1)
    return draw.randint(low, high)
