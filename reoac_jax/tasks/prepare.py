"""Downloads or reads a task's raw problems and writes them as the program reads them.

    python -m reoac_jax.tasks.prepare gsm8k configs/gsm8k.py all [--source DIR]

Writes `data/raw/<task>/<split>.jsonl` (the rows as their authors publish them) and the files
that the config's `task.train_file` and `task.test_file` name. Either all files are written or
none is touched. Each published solution is graded: GSM8K's must be right, or the row is refused
with its file and line; rows of MATH whose solution the grader cannot confirm are kept, counted and
listed.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from reoac_jax.config import load_config, parse_command_line
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import replacing_file
from reoac_jax.system.progress import ProgressLine
from reoac_jax.tasks.dataset import RawRow, read_rows, write_problems, write_rows
from reoac_jax.tasks.sources import SOURCES, Source
from reoac_jax.tasks.task import Problem, Split


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="download_data.sh", description=__doc__.split("\n")[0])
    parser.add_argument("task", choices=sorted(SOURCES))
    parser.add_argument("config", help="configuration file, for instance configs/gsm8k.py")
    parser.add_argument("split", choices=["train", "test", "all"])
    parser.add_argument("--source", metavar="DIR", help="folder with the raw .jsonl files")
    arguments, overrides = parse_command_line(parser, argv)
    config = load_config(arguments.config, overrides)
    if config.task.name != arguments.task:
        raise InputError(
            f"{arguments.config} is for task {config.task.name!r}; expected {arguments.task!r}"
        )
    splits: list[Split] = ["train", "test"] if arguments.split == "all" else [arguments.split]
    source = SOURCES[arguments.task]
    targets: dict[Split, str] = {"train": config.task.train_file, "test": config.task.test_file}
    _check_targets(targets)
    raw: dict[Split, list[RawRow]] = {}
    problems: dict[Split, list[Problem]] = {}
    for split in splits:
        rows = _raw_rows(source, split, arguments.source)
        raw[split] = []
        with ProgressLine(None, f"reading {split}", unit="row", after=2.0) as progress:
            for row in rows:
                raw[split].append(row)
                progress.update()
        problems[split] = [source.problem_from_row(row, split) for row in raw[split]]
    unconfirmed = {
        split: _unconfirmed(source, problems[split], raw[split], config.grader, split)
        for split in splits
    }
    raw_files = {split: f"data/raw/{arguments.task}/{split}.jsonl" for split in splits}
    with contextlib.ExitStack() as files:
        # Leaving the stack puts all files in place; an error before that leaves them all alone.
        for split in splits:
            values = (row.values for row in raw[split])
            write_rows(files.enter_context(_replacing(raw_files[split])), values)
            write_problems(files.enter_context(_replacing(targets[split])), problems[split])
    for split in splits:
        print(f"{split}: {len(problems[split])} problems in {targets[split]}", file=sys.stderr)
    counts = {split: len(problems[split]) for split in splits}
    written = {split: targets[split] for split in splits}
    summary = {
        "task": arguments.task,
        "problems": counts,
        "processed": written,
        "raw": raw_files,
        "not_graded_right": unconfirmed,
    }
    print(json.dumps(summary))
    return 0


def _unconfirmed(
    source: Source, problems: list[Problem], rows: list[RawRow], grader: ConfigDict, split: Split
) -> list[str]:
    """Ids of the problems whose own solution is not graded as right; each is named on stderr."""
    if source.wrong_references is None:
        return []
    with ProgressLine(None, f"grading the solutions of {split}", unit="row", after=2.0):
        wrong = source.wrong_references(problems, grader)
    for index in wrong:
        what = (
            f"the solution is not graded as right for its answer {problems[index].target_answer!r}"
        )
        print(f"warning: {rows[index].place}: {what}", file=sys.stderr)
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


def _raw_rows(source: Source, split: Split, folder: str | None) -> Iterator[RawRow]:
    if folder is None:
        yield from _hub_rows(source, split)
        return
    names = source.local_files[split]
    for name in names:
        path = Path(folder) / name
        if path.is_file():
            yield from read_rows(path)
            return
    raise InputError(
        f"--source {folder} holds no {' or '.join(names)}; expected the {split} problems"
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
