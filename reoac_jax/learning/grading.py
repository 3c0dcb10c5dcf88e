"""Grading beside the devices' work: texts of finished rows, while the next rows are denoised."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import numpy as np

from reoac_jax.learning.parts import Parts
from reoac_jax.tasks import Grade, Problem, Task
from reoac_jax.tasks.decode import generated_text
from reoac_jax.tasks.task import RewardMode


class Grading:
    """Decodes and grades answers in a thread of its own, batch after batch; used in a `with`."""

    def __init__(self, task: Task, problems: Sequence[Problem], parts: Parts, mode: RewardMode):
        """problems: one for each answer. mode: "strict" or "shaped"."""
        self._task, self._problems, self._parts, self._mode = task, problems, parts, mode
        self._thread = ThreadPoolExecutor(1)
        self._batches: list[tuple[Sequence[int], Future]] = []

    def add(self, indices: Sequence[int], tokens: np.ndarray) -> None:
        """Takes the answers to the problems at `indices`: tokens int32 `[n, G]`."""
        self._batches.append((indices, self._thread.submit(self._grade, indices, tokens)))

    def finish(self) -> tuple[list[str], list[Grade]]:
        """Waits for all; text and grade of each problem, in their order."""
        graded: dict[int, tuple[str, Grade]] = {}
        for indices, batch in self._batches:
            for index, text, grade in zip(indices, *batch.result(), strict=True):
                graded[index] = text, grade
        ordered = [graded[index] for index in range(len(self._problems))]
        return [text for text, _ in ordered], [grade for _, grade in ordered]

    def _grade(
        self, indices: Sequence[int], tokens: np.ndarray
    ) -> tuple[list[str], Sequence[Grade]]:
        tokenizer, special = self._parts.tokenizer, self._parts.vocabulary.is_special
        texts = [generated_text(row, tokenizer, special) for row in tokens]
        problems = [self._problems[index] for index in indices]
        return texts, self._task.grade(texts, problems, self._mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(cancel_futures=True)
