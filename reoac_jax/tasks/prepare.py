"""Downloads or reads raw problems and writes them as the program reads them.

    python -m reoac_jax.tasks.prepare gsm8k configs/gsm8k.py all [--source DIR]
    python -m reoac_jax.tasks.prepare gsm8k_aug configs/gsm8k_aug.py train [--source DIR|FILE]

Writes `data/raw/<name>/<split>.jsonl` (the rows as their authors publish them) and the files
that the config's `task.train_file` and `task.test_file` name. Either all files are written or
none is touched. Each published solution is graded: GSM8K's must be right, or the row is refused
with its file and line; rows of MATH whose solution the grader cannot confirm are kept, counted and
listed. Of problems made from those of a task, such as gsm8k_aug's, those near one of its test or
development problems are left out and counted (`overlap.py`), and so are those whose answer is not
one number. Rows are read one after the other, and only MATH's are held in memory.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ml_collections import ConfigDict

from reoac_jax.config import load_config, parse_command_line
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import replacing_file
from reoac_jax.system.progress import ProgressLine
from reoac_jax.tasks import make_task
from reoac_jax.tasks.dataset import RawRow
from reoac_jax.tasks.overlap import KeptApart
from reoac_jax.tasks.sources import SOURCES, Source
from reoac_jax.tasks.task import Problem, Split

_NOT_A_NUMBER = "answer is not one number"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="download_data.sh", description=__doc__.split("\n")[0])
    parser.add_argument("name", metavar="task", choices=sorted(SOURCES))
    parser.add_argument("config", help="configuration file, for instance configs/gsm8k.py")
    parser.add_argument("split", choices=["train", "test", "all"])
    parser.add_argument(
        "--source", metavar="DIR", help="folder with the raw files, or the file of the one split"
    )
    arguments, overrides = parse_command_line(parser, argv)
    config, source = load_config(arguments.config, overrides), SOURCES[arguments.name]
    splits = _splits(arguments, source)
    if config.task.name != source.task:
        raise InputError(
            f"{arguments.config} is for task {config.task.name!r}; expected {source.task!r}"
        )
    targets: dict[Split, str] = {"train": config.task.train_file, "test": config.task.test_file}
    _check_targets(targets)
    apart = _kept_apart(config, source)
    with contextlib.ExitStack() as held:
        made = {
            split: held.enter_context(
                _Prepared.read(source, split, _raw_rows(source, split, arguments.source), apart)
            )
            for split in splits
        }
        unconfirmed = {
            split: _unconfirmed(source, made[split], config.grader, split) for split in splits
        }
        raw_files = {split: f"data/raw/{arguments.name}/{split}.jsonl" for split in splits}
        with contextlib.ExitStack() as files:
            # Leaving the stack puts all files in place; an error before leaves them all alone.
            for split in splits:
                _fill(files.enter_context(_replacing(raw_files[split])), made[split].raw)
                _fill(files.enter_context(_replacing(targets[split])), made[split].problems)
    for split in splits:
        dropped = "".join(f", {n} left out: {why}" for why, n in made[split].dropped.items())
        print(
            f"{split}: {made[split].count} problems in {targets[split]}{dropped}", file=sys.stderr
        )
    summary = {
        "task": arguments.name,
        "problems": {split: made[split].count for split in splits},
        "processed": {split: targets[split] for split in splits},
        "raw": raw_files,
        "not_graded_right": unconfirmed,
    }
    if apart is not None:
        summary["dropped"] = {split: made[split].dropped for split in splits}
    print(json.dumps(summary))
    return 0


def _splits(arguments: argparse.Namespace, source: Source) -> list[Split]:
    """The splits that are asked for. Raises `InputError` where the source has not that one."""
    if arguments.split == "all":
        return list(source.local_files)
    if arguments.split not in source.local_files:
        raise InputError(
            f"{arguments.name} has no {arguments.split} problems; expected train, or "
            f"`bash scripts/download_data.sh {source.task} <config> {arguments.split}`"
        )
    return [arguments.split]


def _kept_apart(config: ConfigDict, source: Source) -> Mapping[str, KeptApart] | None:
    """By split, the questions that made problems must not be near; None: they are not made."""
    if source.made_from is None:
        return None
    splits: list[Split] = ["test", "dev"] if config.task.dev_size else ["test"]
    with contextlib.closing(make_task(config.task, config.grader)) as task:
        return {split: KeptApart(p.prompt for p in task.stream(split)) for split in splits}


@dataclasses.dataclass
class _Prepared:
    """A split in temporary files that are gone when it is closed.

    raw, problems: JSON lines. count: problems. dropped: why rows were left out, and how many.
    graded: problem and place of each, where solutions are to be graded; else empty.
    """

    raw: BinaryIO
    problems: BinaryIO
    count: int
    dropped: dict[str, int]
    graded: list[tuple[Problem, str]]

    @classmethod
    @contextlib.contextmanager
    def read(
        cls,
        source: Source,
        split: Split,
        rows: Iterator[RawRow],
        apart: Mapping[str, KeptApart] | None,
    ) -> Iterator["_Prepared"]:
        reasons = [f"{how} to {kept}" for kept in apart or () for how in ("equal", "near")]
        dropped = collections.Counter({why: 0 for why in reasons})
        with tempfile.TemporaryFile() as raw, tempfile.TemporaryFile() as problems:
            made = cls(raw, problems, 0, dropped, [])
            with ProgressLine(None, f"reading {split}", unit="row", after=2.0) as progress:
                for row in rows:
                    raw.write(_line(row.values))
                    made._add(source, split, row, apart or {})
                    progress.update()
            yield made

    def _add(
        self, source: Source, split: Split, row: RawRow, apart: Mapping[str, KeptApart]
    ) -> None:
        problem = source.problem_from_row(row, split)
        if problem is None:
            self.dropped[_NOT_A_NUMBER] += 1
            return
        for name, kept in apart.items():
            if verdict := kept.verdict(problem.prompt):
                self.dropped[f"{verdict} to {name}"] += 1
                return
        self.problems.write(_line(dataclasses.asdict(problem)))
        self.count += 1
        if source.wrong_references is not None:
            self.graded.append((problem, row.place))


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False) + "\n").encode("utf-8")


def _fill(path: Path, content: BinaryIO) -> None:
    content.seek(0)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)


def _unconfirmed(source: Source, made: _Prepared, grader: ConfigDict, split: Split) -> list[str]:
    """Ids of the problems whose own solution is not graded as right; each is named on stderr."""
    if source.wrong_references is None:
        return []
    problems = [problem for problem, _ in made.graded]
    with ProgressLine(None, f"grading the solutions of {split}", unit="row", after=2.0):
        wrong = source.wrong_references(problems, grader)
    for index in wrong:
        problem, place = made.graded[index]
        what = f"the solution is not graded as right for its answer {problem.target_answer!r}"
        print(f"warning: {place}: {what}", file=sys.stderr)
    print(
        f"{split}: {len(wrong)} of {len(problems)} solutions not graded as right", file=sys.stderr
    )
    return [problems[index].id for index in wrong]


def _check_targets(targets: Mapping[Split, str]) -> None:
    """Raises `InputError` unless each split has a file of its own that could be there."""
    if targets["train"] == targets["test"]:
        raise InputError(
            f"task.train_file and task.test_file are both {targets['train']}; expected two files"
        )
    for path in map(Path, targets.values()):
        above = next(parent for parent in path.parents if parent.exists())
        if path.is_dir() or not above.is_dir():
            raise InputError(f"cannot write {path}; expected the name of a file in a folder")


@contextlib.contextmanager
def _replacing(path: str | Path) -> Iterator[Path]:
    try:
        with replacing_file(path) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _raw_rows(source: Source, split: Split, local: str | None) -> Iterator[RawRow]:
    if local is None:
        yield from _hub_rows(source, split)
        return
    names, given = source.local_files[split], Path(local)
    for path in [given] if given.is_file() else [given / name for name in names]:
        if path.is_file():
            yield from source.read_file(path)
            return
    raise InputError(
        f"--source {local} holds no {' or '.join(names)}; expected the {split} problems"
    )


def _hub_rows(source: Source, split: Split) -> Iterator[RawRow]:
    import datasets  # slow to import, and not needed with --source
    import huggingface_hub

    huggingface_hub.utils.logging.set_verbosity_error()  # the one line below says it
    index = 0
    for config in source.configs:
        try:
            rows = datasets.load_dataset(source.repository, config, split=split)
        except Exception as error:
            # The hub's client raises its own, requests' and httpx's errors for the same reasons.
            reason = (str(error).splitlines() or [""])[0][:150]
            raise InputError(
                f"cannot load {source.repository} ({config}) from the hub: {type(error).__name__}: "
                f"{reason}; expected the hub, or --source DIR with the files at hand"
            ) from None
        for number, values in enumerate(rows):
            yield RawRow(values, f"{source.repository}/{config}/{split}:{number + 1}", index)
            index += 1


if __name__ == "__main__":
    sys.exit(run_command(main))
