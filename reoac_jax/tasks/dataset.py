"""JSON-lines files of problems: strict reading that names file and line, and writing."""

import codecs
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from reoac_jax.config.schema import is_text
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import looked_in
from reoac_jax.tasks.task import Problem, Split


@dataclasses.dataclass(frozen=True, slots=True)
class RawRow:
    """One JSON object and where it came from.

    Attributes:
      values: the object.
      place: for messages, for instance `train.jsonl:17`.
      index: position among the rows of its split, from 0.
    """

    values: Mapping[str, Any]
    place: str
    index: int

    def text(self, field: str) -> str:
        """The field's text. Raises `InputError` if it is missing, no text, or blank."""
        if field not in self.values:
            raise self.error(f"field {field!r} is missing; expected a text")
        value = self.values[field]
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"field {field!r} is {_short(value)}; expected a text, not blank")
        return value

    def error(self, what: str) -> InputError:
        return InputError(f"{self.place}: {what}")


def read_rows(path: str | Path) -> Iterator[RawRow]:
    """Yields the objects of a JSON-lines file in UTF-8; blank lines and byte-order marks are none.

    Raises `InputError` with file and line where a line is not UTF-8 or not one JSON object, and
    with the file's name where it cannot be read or holds no line.
    """
    path = Path(path)
    index = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                # At the start of a file, and of each of several that were put together.
                line = line.removeprefix(codecs.BOM_UTF8)
                if not line.strip():
                    continue
                place = f"{path}:{number}"
                yield RawRow(_parse_line(line, place), place, index)
                index += 1
    except OSError as error:
        raise InputError(f"cannot read {path}{looked_in(path)}: {error.strerror}") from None
    if index == 0:
        raise InputError(f"{path} is empty; expected one JSON object a line")


def read_problems(
    path: str | Path, task: str, check: Callable[[Problem], object] | None = None
) -> list[Problem]:
    """The problems of a processed file (id, prompt, target_answer, task, metadata).

    check: raises an `InputError` for a problem that the task cannot use; the line is put in front.

    Raises `InputError` as `read_rows` does, and where a field is missing or of another type, an
    id occurs twice, or the file belongs to another task.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path} is not there{looked_in(path)}; expected the problems that "
            f"`bash scripts/download_data.sh {task} <config> all` writes"
        )
    problems: dict[str, Problem] = {}
    for row in read_rows(path):
        metadata = row.values.get("metadata")
        if not isinstance(metadata, dict):
            raise row.error(f"field 'metadata' is {_short(metadata)}; expected an object")
        problem = Problem(
            row.text("id"),
            row.text("prompt"),
            row.text("target_answer"),
            row.text("task"),
            metadata,
        )
        if problem.task != task:
            raise row.error(f"field 'task' is {problem.task!r}; expected {task!r}")
        if problem.id in problems:
            raise row.error(f"id {problem.id!r} occurs a second time; expected distinct ids")
        if check is not None:
            try:
                check(problem)
            except InputError as error:
                raise row.error(str(error)) from None
        problems[problem.id] = problem
    return list(problems.values())


def read_split(
    task: ConfigDict, split: Split, check: Callable[[Problem], object] | None = None
) -> list[Problem]:
    """A split of a task that has `train_file`, `test_file` and `dev_size`.

    The development problems are the last of the training file, and are not trained on. Raises
    `InputError` where a file is not as `read_problems` expects, or too small for `dev_size`.
    """
    if split == "test":
        return read_problems(task.test_file, task.name, check)
    problems = read_problems(task.train_file, task.name, check)
    kept = len(problems) - task.dev_size
    if split == "dev" and not task.dev_size:
        raise InputError("task.dev_size is 0; expected 1 or more for development problems")
    if kept < 1:
        raise InputError(
            f"task.dev_size is {task.dev_size}; expected less than the {len(problems)} problems of "
            f"{task.train_file}"
        )
    return problems[kept:] if split == "dev" else problems[:kept]


def write_problems(path: str | Path, problems: Iterable[Problem]) -> None:
    """Writes problems as JSON lines, straight to `path`."""
    write_rows(path, map(dataclasses.asdict, problems))


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes objects as JSON lines in UTF-8, straight to `path`."""
    with Path(path).open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _parse_line(line: bytes, place: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        what = f"byte {error.start + 1} is not UTF-8; expected UTF-8 text"
        raise InputError(f"{place}: {what}") from None
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "number too long or nested too deep")
        what = f"malformed JSON ({reason}); expected one object a line"
        raise InputError(f"{place}: {what}") from None
    if not isinstance(value, dict):
        raise InputError(f"{place}: holds {_short(value)}; expected a JSON object")
    if rb"\u" in line:  # only an escape can bring in what UTF-8 cannot hold
        for field in value:
            if not is_text(json.dumps({field: value[field]}, ensure_ascii=False)):
                what = f"field {field!r} holds half a surrogate pair; expected Unicode text"
                raise InputError(f"{place}: {what}")
    return value


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
