"""What a run tells about itself: metrics.jsonl, its progress, an accuracy's interval."""

import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn
from tqdm import tqdm

from reoac_jax.system.errors import InputError
from reoac_jax.system.files import replacing_file

QUIET_SECONDS = 2.0  # work without parts that is done sooner is not spoken of


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
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and isinstance(record.get("iteration"), int):
                    self._lines.append(record)
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
    kept = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            iteration = json.loads(line)["iteration"]
            if iteration <= keep_through and line.endswith(b"\n"):
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise InputError(
                    f"{path}, line {number} is damaged; expected a JSON object with an iteration"
                ) from None
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())


def wilson_interval(correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a proportion, `correct` of `n`; 95 % for `z` = 1.96.

        (p + z^2/2n +- z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n),  p = correct / n

    (Wilson 1927.) Unlike p +- z sqrt(p (1-p)/n) it stays in [0, 1] and has width at p = 0 and 1.
    Raises `ValueError` unless 0 <= correct <= n and n >= 1.
    """
    if n < 1 or not 0 <= correct <= n:
        raise ValueError(f"{correct} correct of {n}")
    share = correct / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # At the ends the formula gives 0 and 1, but for rounding.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high


class ProgressLine:
    """A progress bar on a terminal; elsewhere (a log file) a plain line now and then.

    Used in a `with` statement. `update` says that work is done and shows named values; `note`
    prints a message of its own.
    """

    def __init__(
        self,
        total: int | None,
        description: str,
        *,
        done: int = 0,
        unit: str = "it",
        seconds_between_lines: float = 10.0,
        after: float = 0.0,
        stream: TextIO | None = None,
    ):
        """`done` of `total` units are finished already.

        Args:
          total: None if nobody knows yet.
          after: nothing is shown of work that takes fewer seconds, and a bar is removed at the end:
            for a part of other work.
          stream: default standard error.
        """
        self._stream = sys.stderr if stream is None else stream
        self._description, self._unit = description, unit
        self._total, self._done, self._first = total, done, done
        self._seconds_between_lines = seconds_between_lines
        self._start, self._after = time.monotonic(), after
        self._last_line = -math.inf
        self._bar = None
        if is_terminal(self._stream):
            self._bar = tqdm(
                total=total, initial=done, desc=description, unit=unit, file=self._stream,
                dynamic_ncols=True, delay=after, leave=not after,
            )  # fmt: skip

    def update(self, count: int = 1, **values: float | str) -> None:
        """`count` further units are done; `values` are shown beside, numbers to four digits."""
        self._done += count
        shown = {
            key: value if isinstance(value, str) else f"{float(value):.4g}"
            for key, value in values.items()
        }
        if self._bar is not None:
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(count)
            return
        now = time.monotonic()
        finished = self._total is not None and self._done >= self._total
        if not finished and now - self._last_line < self._seconds_between_lines:
            return
        if now - self._start < self._after:
            return
        self._last_line = now
        seconds = (now - self._start) / max(self._done - self._first, 1)
        line = f"{self._description}: {self._done}"
        if self._total is not None:
            left = seconds * max(self._total - self._done, 0)
            line += f"/{self._total} {self._unit}, {seconds:.3g} s/{self._unit}, {left:.0f} s left"
        else:
            line += f" {self._unit}, {seconds:.3g} s/{self._unit}"
        self.note(", ".join([line, *(f"{key} {value}" for key, value in shown.items())]))

    def note(self, message: str) -> None:
        """Prints one line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(message, file=self._stream)
        else:
            print(message, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


@contextlib.contextmanager
def working(
    description: str, *, after: float | None = None, stream: TextIO | None = None
) -> Iterator[None]:
    """Says what goes on if it takes more than `after` seconds: for a single call without parts.

    A line that moves and goes away on a terminal, elsewhere one plain line. `after` defaults to
    `QUIET_SECONDS`, `stream` to standard error.
    """
    stream = sys.stderr if stream is None else stream
    after = QUIET_SECONDS if after is None else after
    columns = SpinnerColumn(), TextColumn("{task.description}")
    display = Progress(*columns, console=Console(file=stream), transient=True)
    terminal = is_terminal(stream)

    def show() -> None:
        if terminal:
            display.add_task(description)
            display.start()
        else:
            print(f"{description} ...", file=stream, flush=True)

    timer = threading.Timer(after, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if terminal:
            display.stop()


def is_terminal(stream: TextIO) -> bool:
    """Whether lines on `stream` can be rewritten: on a terminal that moves its cursor and has a
    known width (of 0 columns, tqdm shows nothing there).
    """
    if not stream.isatty() or os.environ.get("TERM", "") in ("dumb", "unknown"):
        return False
    return os.get_terminal_size(stream.fileno()).columns > 0
