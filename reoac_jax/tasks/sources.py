"""Where the problems of the tasks with published data come from."""

import dataclasses
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from reoac_jax.tasks.dataset import RawRow
from reoac_jax.tasks.families import gsm8k, math
from reoac_jax.tasks.task import Problem, Split


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a task's problems come from.

    Attributes:
      repository: data set on the hub. licence: of the data, by its identifier there.
      configs: its configurations, whose rows are joined in this order.
      local_files: file names looked for in a local folder, by split; the first that is there.
      problem_from_row: turns a raw row into a problem.
      wrong_references: indices of the problems whose published solution is not graded as right,
        from the problems and `config.grader`; None where `problem_from_row` refuses such rows.
    """

    repository: str
    licence: str
    configs: tuple[str, ...]
    local_files: dict[Split, tuple[str, ...]]
    problem_from_row: Callable[[RawRow, Split], Problem]
    wrong_references: Callable[[Sequence[Problem], ConfigDict], list[int]] | None = None


SOURCES = {
    "gsm8k": Source(
        "openai/gsm8k",
        "mit",
        ("main",),
        {"train": ("train.jsonl",), "test": ("test.jsonl",)},
        gsm8k.problem_from_row,
    ),
    "math": Source(
        "EleutherAI/hendrycks_math",
        "mit",
        (
            "algebra",
            "counting_and_probability",
            "geometry",
            "intermediate_algebra",
            "number_theory",
            "prealgebra",
            "precalculus",
        ),
        {"train": ("train.jsonl",), "test": ("test.jsonl", "test_500.jsonl")},
        math.problem_from_row,
        math.wrong_references,
    ),
}
