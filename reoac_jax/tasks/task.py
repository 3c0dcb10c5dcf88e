"""What a task is: problems with verified answers, behind one interface."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from ml_collections import ConfigDict

from reoac_jax.config.schema import Option
from reoac_jax.tasks.equation_notation import EquationNotation

Split = Literal["train", "dev", "test"]
# train: learned from. dev: parameters and checkpoints are chosen on it. test: results are reported.
RewardMode = Literal["strict", "shaped"]


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
      id: unique within its split, for instance `gsm8k/train/17`.
      prompt: the text the model is given.
      target_answer: the final answer that a right text must reach.
      task: name of the task it belongs to.
      metadata: what the task needs besides (published solution, level, ...); plain JSON values.
    """

    id: str
    prompt: str
    target_answer: str
    task: str
    metadata: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one generated text.

    Attributes:
      correct: the strict verdict, whatever the reward mode.
      reward: in [0, 1]; 1.0 exactly where `correct`, and in `strict` mode 0.0 elsewhere.
      extracted: the answer found in the text; None where none was found.
      expected: the answer that was expected.
      failed: the grader ran out of time or crashed on this text, which counts as wrong.
    """

    correct: bool
    reward: float
    extracted: str | None
    expected: str
    failed: bool = False


class Task(abc.ABC):
    """A task: made from `config.task` and `config.grader`, closed when no longer needed.

    Class attributes:
      name: value of `config.task.name`.
      options: the keys of `config.task` besides `name`.
      grader_version: recorded with every evaluation.
      has_notation: `checks` can say something of a text without its problem's answer.
      notation: what of it a compiled loop can read (`features.notation`); None: nothing.
    """

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Option]]
    grader_version: ClassVar[str]
    has_notation: ClassVar[bool] = False
    notation: ClassVar[EquationNotation | None] = None

    @abc.abstractmethod
    def __init__(self, task: ConfigDict, grader: ConfigDict) -> None: ...

    @abc.abstractmethod
    def problems(self, split: Split) -> list[Problem]:
        """All problems of a split, in an order that is the same every time.

        No problem of `dev` or `test` is one of another split.
        """

    def stream(self, split: Split) -> Iterator[Problem]:
        """The same, one after the other, where they need not be in memory together."""
        return iter(self.problems(split))

    @abc.abstractmethod
    def reference_text(self, problem: Problem) -> str:
        """The answer the backbone is trained to write."""

    @abc.abstractmethod
    def grade(
        self, texts: Sequence[str], problems: Sequence[Problem], mode: RewardMode = "strict"
    ) -> list[Grade]:
        """One grade for each text; `texts[i]` answers `problems[i]`."""

    @abc.abstractmethod
    def extract(self, texts: Sequence[str]) -> list[str | None]:
        """The answer that `grade` would find in each text, whatever was asked; None for none."""

    @classmethod
    def checks(cls, prompt: str, text: str) -> bool:
        """Whether a text keeps what the prompt and the notation alone demand of it.

        Nothing of the problem is known but its prompt: no reference, no answer. Raises
        `NotImplementedError` unless `has_notation`.
        """
        raise NotImplementedError(cls.name)

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the grader's processes, if it has any. May be called twice."""
