r"""MATH: competition problems whose answers are formulas, graded by `math-verify`."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import ClassVar

from ml_collections import ConfigDict

from reoac_jax.config.schema import Option
from reoac_jax.tasks.boxed import last_boxed, without_repeated_answer
from reoac_jax.tasks.dataset import RawRow, stream_split
from reoac_jax.tasks.grading_pool import GradingPool
from reoac_jax.tasks.task import Grade, Problem, RewardMode, Split, Task

_BOXED_SHARE = 0.1  # shaped reward of a wrong text that at least boxes an answer


class Math(Task):
    """Problems from the files that `scripts/download_data.sh math` writes."""

    name: ClassVar[str] = "math"
    grader_version: ClassVar[str] = f"math-4+math-verify-{version('math-verify')}"
    options: ClassVar[dict[str, Option]] = {
        "train_file": Option(
            "str", "processed training problems, .jsonl", "data/processed/math_train.jsonl"
        ),
        "dev_size": Option(
            "int", "last problems of the training file that are kept for development", 0, low=0
        ),
        "test_file": Option(
            "str", "processed test problems, .jsonl", "data/processed/math_test.jsonl"
        ),
    }

    def __init__(self, task: ConfigDict, grader: ConfigDict) -> None:
        self._task = task
        self._pool = GradingPool(grader.workers, grader.timeout)

    def problems(self, split: Split) -> list[Problem]:
        return list(stream_split(self._task, split))

    def reference_text(self, problem: Problem) -> str:
        r"""The published solution, or `\boxed{answer}` where only the answer was published."""
        return _reference_text(problem)

    def grade(
        self, texts: Sequence[str], problems: Sequence[Problem], mode: RewardMode = "strict"
    ) -> list[Grade]:
        """Grades by the last boxed answer; shaped: 0.1 for a wrong answer that is boxed."""
        items = [
            (text, problem.target_answer) for text, problem in zip(texts, problems, strict=True)
        ]
        grades = []
        for (text, expected), verdict in zip(items, self._pool.judge(items), strict=True):
            reward = float(verdict.correct)
            if mode == "shaped" and not verdict.correct and last_boxed(text):
                reward = _BOXED_SHARE
            grades.append(
                Grade(verdict.correct, reward, verdict.extracted, expected, verdict.failed)
            )
        return grades

    def extract(self, texts: Sequence[str]) -> list[str | None]:
        # What is found does not depend on the answer it is compared with.
        return [verdict.extracted for verdict in self._pool.judge([(text, "0") for text in texts])]

    def close(self) -> None:
        self._pool.close()


def wrong_references(problems: Sequence[Problem], grader: ConfigDict) -> list[int]:
    """Which published solutions (indices) are not graded as right against their own answer.

    The grading library cannot read every formula; a problem among these can never earn a reward.
    """
    pool = GradingPool(grader.workers, grader.timeout)
    try:
        verdicts = pool.judge(
            [(_reference_text(problem), problem.target_answer) for problem in problems]
        )
    finally:
        pool.close()
    return [index for index, verdict in enumerate(verdicts) if not verdict.correct]


def _reference_text(problem: Problem) -> str:
    solution = problem.metadata.get("solution")
    return solution if isinstance(solution, str) else rf"\boxed{{{problem.target_answer}}}"


def problem_from_row(row: RawRow, split: Split) -> Problem:
    r"""A raw MATH row as a problem. Raises `InputError` naming the row's place.

    Known layouts: `problem, level, type, solution` (the hub's `EleutherAI/hendrycks_math`),
    `problem, level, subject, unique_id, answer` (final answers only) and `question, answer`
    (MATH-500: a solution that ends in `\boxed{...}`, with the answer repeated behind it).
    """
    solution: str | None
    if "question" in row.values:
        prompt, solution = row.text("question"), without_repeated_answer(row.text("answer"))
    elif "solution" in row.values:
        prompt, solution = row.text("problem"), row.text("solution")
    else:
        prompt, solution = row.text("problem"), None
    if solution is None:
        answer = row.text("answer").strip()
    else:
        boxed = last_boxed(solution)
        if not boxed:
            raise row.error(r"the solution holds no complete \boxed{...}; expected an answer")
        answer = boxed
    metadata = {
        key: row.values[key]
        for key in ("level", "type", "subject", "unique_id")
        if isinstance(row.values.get(key), str)
    }
    if solution is not None:
        metadata["solution"] = solution
    return Problem(f"math/{split}/{row.index}", prompt, answer, "math", metadata)
