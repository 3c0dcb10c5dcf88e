"""JSON-lines files of problems: strict reading that names file and line, and writing."""

import array
import codecs
import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from reoac_jax.config.schema import is_text
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import looked_in
from reoac_jax.tasks.task import Problem, Split

NO_FILE = "none"  # of a key that may name a file


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
    """All problems of a processed file, as `stream_problems` yields them."""
    return list(stream_problems(path, task, check))


def stream_problems(
    path: str | Path, task: str, check: Callable[[Problem], object] | None = None
) -> Iterator[Problem]:
    """Yields the problems of a processed file (id, prompt, target_answer, task, metadata).

    Of each only 8 bytes are kept. check: raises an `InputError` for a problem that the task cannot
    use; the line is put in front.

    Raises `InputError` as `read_rows` does, and where a field is missing or of another type, the
    file belongs to another task, or, behind the last problem, an id occurred twice.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path} is not there{looked_in(path)}; expected the problems that "
            f"`bash scripts/download_data.sh {task} <config> all` writes"
        )
    digests = array.array("Q")
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
        if check is not None:
            try:
                check(problem)
            except InputError as error:
                raise row.error(str(error)) from None
        digests.append(_digest(problem.id))
        yield problem
    if len(np.unique(np.frombuffer(digests, np.uint64))) < len(digests):
        _refuse_repeated(path)


def _digest(text: str) -> int:
    """64 bits of a text, in which different ones hardly ever agree."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")


def _refuse_repeated(path: Path) -> None:
    """Raises `InputError` at the first line whose id stood before."""
    seen: set[str] = set()
    for row in read_rows(path):
        own = row.text("id")
        if own in seen:
            raise row.error(f"id {own!r} occurs a second time; expected distinct ids")
        seen.add(own)


def stream_split(
    task: ConfigDict,
    split: Split,
    check: Callable[[Problem], object] | None = None,
    dev_file: str = NO_FILE,
) -> Iterator[Problem]:
    """Yields a split of a task that has `train_file`, `test_file` and `dev_size`.

    The development problems are the last of the training file, and are not trained on; or the last
    of another one, `dev_file`. Raises `InputError` where a file is not as `stream_problems`
    expects, or too small for `dev_size`.
    """
    if split == "dev" and not task.dev_size:
        raise InputError("task.dev_size is 0; expected 1 or more for development problems")
    own = dev_file == NO_FILE
    if split == "test" or (split == "train" and not own):
        file = task.test_file if split == "test" else task.train_file
        yield from stream_problems(file, task.name, check)
        return
    file = task.train_file if own else dev_file
    last: collections.deque[Problem] = collections.deque()
    count = 0
    for problem in stream_problems(file, task.name, check):
        count += 1
        last.append(problem)
        if len(last) > task.dev_size:
            first = last.popleft()
            if split == "train":
                yield first
    if count <= task.dev_size:
        raise InputError(
            f"task.dev_size is {task.dev_size}; expected less than the {count} problems of {file}"
        )
    if split == "dev":
        yield from last


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
