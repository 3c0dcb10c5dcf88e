"""Where the problems of the tasks with published data come from."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from reoac_jax.tasks import augmented
from reoac_jax.tasks.dataset import RawRow, read_rows
from reoac_jax.tasks.families import gsm8k, math
from reoac_jax.tasks.task import Problem, Split


@dataclasses.dataclass(frozen=True)
class Source:
    """Where problems come from.

    Attributes:
      repository: data set on the hub. licence: of the data, by its identifier there.
      configs: its configurations, whose rows are joined in this order.
      local_files: of each split that there is, the names looked for in a local folder; the first
        that is there is taken.
      task: that the problems are of.
      problem_from_row: turns a raw row into a problem; None: a row that is left out and counted.
      wrong_references: indices of the problems whose published solution is not graded as right,
        from the problems and `config.grader`; None where `problem_from_row` refuses such rows.
      read_text: the raw rows of a local file whose name ends in .txt; None: there is none.
      made_from: of problems made from those of the task: the source of these. A problem near one
        of the task's test or development problems is left out and counted.
    """

    repository: str
    licence: str
    configs: tuple[str, ...]
    local_files: dict[Split, tuple[str, ...]]
    task: str
    problem_from_row: Callable[[RawRow, Split], Problem | None]
    wrong_references: Callable[[Sequence[Problem], ConfigDict], list[int]] | None = None
    read_text: Callable[[Path], Iterator[RawRow]] | None = None
    made_from: str | None = None

    def read_file(self, path: Path) -> Iterator[RawRow]:
        """The raw rows of a local file. Raises `InputError`."""
        if path.suffix == ".txt" and self.read_text is not None:
            return self.read_text(path)
        return read_rows(path)


SOURCES = {
    "gsm8k": Source(
        "openai/gsm8k",
        "mit",
        ("main",),
        {"train": ("train.jsonl",), "test": ("test.jsonl",)},
        "gsm8k",
        gsm8k.problem_from_row,
    ),
    "gsm8k_aug": Source(
        "zen-E/GSM8k-Aug",
        "apache-2.0",
        ("default",),
        {"train": ("train.txt", "train.jsonl")},
        "gsm8k",
        augmented.problem_from_row,
        read_text=augmented.read_lines,
        made_from="gsm8k",
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
        "math",
        math.problem_from_row,
        math.wrong_references,
    ),
}
