"""What a run tells about itself: metrics.jsonl, written and followed."""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from reoac_jax.system.errors import InputError
from reoac_jax.system.files import replacing_file


class MetricsLog:
    """Appends one JSON line an iteration; a line is on the disk when `append` returns.

    Close it, or use it in a `with` statement.
    """

    def __init__(self, path: str | os.PathLike, keep_through: int | None = None):
        """Opens a new file, or an existing one for going on after iteration `keep_through`.

        With `keep_through` the lines of later iterations, and a last line that was cut off while it
        was written, are removed. Raises `InputError` for an existing file without `keep_through`,
        and for one that is damaged elsewhere than in its last line.
        """
        path = Path(path)
        if keep_through is not None and path.exists():
            _truncate(path, keep_through)
        elif path.exists() and path.stat().st_size:
            raise InputError(f"{path} already holds metrics; expected a new file")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def append(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Writes `{"iteration": iteration, **values}`.

        Values are numbers (also NumPy and JAX scalars), texts, None, or mappings and lists of
        these. Raises `FloatingPointError` naming the first value that is NaN or infinite; nothing
        is written then.
        """
        record = {"iteration": int(iteration)}
        record |= {key: _plain(value, key, iteration) for key, value in values.items()}
        self._file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def parse_metrics(data: bytes) -> list[dict[str, Any] | None]:
    """The lines of a `metrics.jsonl` in order; None for one that holds no iteration's values."""
    return [_parse_line(line) for line in data.splitlines()]


def _parse_line(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if isinstance(record, dict) and isinstance(record.get("iteration"), int):
        return record
    return None


class MetricsTail:
    """Reads a `metrics.jsonl` that another process may be writing, each line once.

    A line that is not whole yet waits for its end. A file that was replaced, as on a resume, is
    read anew.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = Path(path)
        self._lines: list[dict[str, Any]] = []
        self._offset = 0
        self._inode: int | None = None

    def read(self) -> list[dict[str, Any]]:
        """Every whole line so far; none if there is no file. Damaged ones are left out."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._lines, self._offset, self._inode = [], 0, status.st_ino
                file.seek(self._offset)
                new = file.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._lines += [record for record in parse_metrics(whole) if record is not None]
        return self._lines

    def age(self) -> float | None:
        """Seconds since the file was last written; None if there is none."""
        try:
            return max(0.0, time.time() - self._path.stat().st_mtime)
        except FileNotFoundError:
            return None


def _plain(value: Any, name: str, iteration: int) -> Any:
    """`value` as JSON takes it, checked finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}", iteration) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{i}]", iteration) for i, item in enumerate(value)]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise FloatingPointError(f"{name} is {value} in iteration {iteration}")
    return value


def _truncate(path: Path, keep_through: int) -> None:
    """Rewrites the file at `path` with the whole lines of iterations up to `keep_through`."""
    data, kept = path.read_bytes(), []
    lines = data.splitlines(keepends=True)
    for number, (line, record) in enumerate(zip(lines, parse_metrics(data), strict=True), start=1):
        if record is None:
            if number < len(lines):
                raise InputError(
                    f"{path}, line {number} is damaged; expected a JSON object with an iteration"
                )
        elif record["iteration"] <= keep_through and line.endswith(b"\n"):
            kept.append(line)
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
