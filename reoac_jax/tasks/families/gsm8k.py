"""GSM8K: grade-school word problems with a number as answer, and the grading of such answers."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

from ml_collections import ConfigDict

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError
from reoac_jax.tasks.answers import (
    MARK,
    final_answer,
    has_final_answer,
    target_answer,
)
from reoac_jax.tasks.dataset import NO_FILE, RawRow, stream_split
from reoac_jax.tasks.equation_notation import EquationNotation
from reoac_jax.tasks.equations import annotations, equation_holds
from reoac_jax.tasks.expressions import NumericAnswer
from reoac_jax.tasks.task import Grade, Problem, RewardMode, Split, Task

AnswerStyle = Literal["full", "equations", "final"]
ANSWER_STYLES: tuple[AnswerStyle, ...] = ("full", "equations", "final")
GRADER_VERSION = "exact-number-5"


class Gsm8k(Task):
    """Problems from the files that `scripts/download_data.sh` writes for gsm8k and gsm8k_aug."""

    name: ClassVar[str] = "gsm8k"
    grader_version: ClassVar[str] = GRADER_VERSION
    has_notation: ClassVar[bool] = True
    notation: ClassVar[EquationNotation] = EquationNotation(annotated=True, states_target=False)
    options: ClassVar[dict[str, Option]] = {
        "train_file": Option(
            "str", "processed training problems, .jsonl", "data/processed/gsm8k_train.jsonl"
        ),
        "dev_size": Option(
            "int", "last problems of the training file that are kept for development", 0, low=0
        ),
        "dev_file": Option(
            "str",
            "none, or another file whose last `dev_size` problems are for development; of "
            "`train_file` all are then for training",
            NO_FILE,
            before=NO_FILE,
        ),
        "test_file": Option(
            "str", "processed test problems, .jsonl", "data/processed/gsm8k_test.jsonl"
        ),
        "answer_style": Option(
            "str", "what the backbone is trained to write", "equations", choices=ANSWER_STYLES
        ),
    }

    def __init__(self, task: ConfigDict, grader: ConfigDict) -> None:
        self._task = task
        self._style: AnswerStyle = task.answer_style

    def problems(self, split: Split) -> list[Problem]:
        return list(self.stream(split))

    def stream(self, split: Split) -> Iterator[Problem]:
        def check(problem: Problem) -> None:
            _expected_number(problem)
            self.reference_text(problem)

        return stream_split(self._task, split, check, self._task.dev_file)

    def reference_text(self, problem: Problem) -> str:
        solution = problem.metadata.get("solution")
        if not isinstance(solution, str):
            raise InputError(
                f"problem {problem.id} has no text metadata.solution; expected the published answer"
            )
        return styled_answer(solution, self._style)

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


def equations_check(text: str) -> bool:
    """Whether a text has annotations, all of which hold, and its final number is the last result.

    Right answers do; that a text does so does not make it right.
    """
    written, final = annotations(text), final_answer(text)
    if not written or final is None or not all(map(equation_holds, written)):
        return False
    last = final_answer(written[-1].rpartition("=")[2])
    return last is not None and last.value == final.value


def styled_answer(answer: str, style: AnswerStyle) -> str:
    """A published answer in one of the three styles of DESIGN.md section 10.

    `full`: as published. `equations`: the calculator annotations only, then the final answer,
    `<<48/2=24>> <<48+24=72>> #### 72`. `final`: `#### 72`.
    """
    if style == "full":
        return answer
    final = f"{MARK} {answer.rpartition(MARK)[2].strip()}"
    if style == "final":
        return final
    return " ".join([*(f"<<{equation}>>" for equation in annotations(answer)), final])


def grade_numbers(
    texts: Sequence[str], problems: Sequence[Problem], mode: RewardMode
) -> list[Grade]:
    """Grades texts by their final number, compared exactly as fractions.

    The shaped reward of a wrong text is at most 0.5: 0.1 for a number behind `####`, plus 0.2
    times the share of its calculator annotations that hold exactly, plus 0.2 times the share of
    the published solution's intermediate results that one of those true annotations reaches.
    """
    return [
        _grade_number(text, problem, mode) for text, problem in zip(texts, problems, strict=True)
    ]


def extract_numbers(texts: Sequence[str]) -> list[str | None]:
    """Each text's final number, as written."""
    found = map(final_answer, texts)
    return [None if number is None else number.text for number in found]


def _expected_number(problem: Problem) -> NumericAnswer:
    expected = target_answer(problem.target_answer)
    if expected is None:
        raise InputError(
            f"problem {problem.id} has target_answer {problem.target_answer!r}; "
            "expected exactly one number"
        )
    return expected


def _grade_number(text: str, problem: Problem, mode: RewardMode) -> Grade:
    expected = _expected_number(problem)
    found = final_answer(text)
    correct = found is not None and found.value == expected.value
    reward = float(correct)
    if mode == "shaped" and not correct:
        reward = _partial_reward(text, problem.metadata.get("solution", ""))
    return Grade(correct, reward, found.text if found else None, expected.text)


def _partial_reward(text: str, solution: str) -> float:
    written = annotations(text)
    true_ones = [equation for equation in written if equation_holds(equation)]
    wanted = _results(annotations(solution))
    share_true = len(true_ones) / len(written) if written else 0.0
    share_reached = len(wanted & _results(true_ones)) / len(wanted) if wanted else 0.0
    return 0.1 * has_final_answer(text) + 0.2 * share_true + 0.2 * share_reached


def _results(equations: Sequence[str]) -> set:
    """The exact values behind the last `=` of each equation."""
    numbers = (final_answer(equation.rpartition("=")[2]) for equation in equations)
    return {number.value for number in numbers if number is not None}


def problem_from_row(row: RawRow, split: Split) -> Problem:
    """A row of `openai/gsm8k` (question, answer) as a problem.

    Raises `InputError` naming the row's place where the answer does not end in exactly one number,
    or would not be graded as right in each of the styles it can be trained on.
    """
    question, answer = row.text("question"), row.text("answer")
    final = answer.rpartition(MARK)[2].strip() if MARK in answer else ""
    if target_answer(final) is None:
        raise row.error(
            f"'answer' ends in {answer[-30:]!r}; "
            f"expected '{MARK} ' and exactly one number at the end"
        )
    metadata: dict[str, Any] = {"solution": answer}
    problem = Problem(f"gsm8k/{split}/{row.index}", question, final, "gsm8k", metadata)
    for style in ANSWER_STYLES:
        if not _grade_number(styled_answer(answer, style), problem, "strict").correct:
            raise row.error(
                f"'answer' does not grade as right against its own end {final!r} in style "
                f"{style!r}; expected a solution that does"
            )
    return problem
