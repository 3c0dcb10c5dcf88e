"""What a command shows of its progress, on a terminal and in a log file."""

import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

QUIET_SECONDS = 2.0  # work without parts that is done sooner is not spoken of
_SECONDS_BETWEEN_DRAWINGS = 0.1
_bars: list["ProgressLine"] = []  # those that stand on a terminal now, the newest last


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
        self._bar: Progress | None = None
        self._drawn = False
        if is_terminal(self._stream):
            self._bar = _bar(self._stream, transient=after > 0)
            self._task = self._bar.add_task(
                description, total=total, completed=done, unit=unit, values=""
            )
            self._draw(self._bar)

    def update(self, count: int = 1, **values: float | str) -> None:
        """`count` further units are done; `values` are shown beside, numbers to four digits."""
        self._done += count
        shown = {
            key: value if isinstance(value, str) else f"{float(value):.4g}"
            for key, value in values.items()
        }
        if self._bar is not None:
            values_shown = ", ".join(f"{key}={value}" for key, value in shown.items())
            self._bar.update(self._task, advance=count, values=values_shown)
            self._draw(self._bar)
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
        if self._bar is not None and self._drawn:
            # Never broken into lines: it may be a command to paste.
            self._bar.console.print(message, markup=False, highlight=False, soft_wrap=True)
        else:
            print(message, file=self._stream, flush=True)

    def _draw(self, bar: Progress) -> None:
        """Shows the bar as it is now, unless it is too early or has just been shown."""
        now = time.monotonic()
        if now - self._start < self._after or now - self._last_line < _SECONDS_BETWEEN_DRAWINGS:
            return
        self._last_line = now
        if not self._drawn:
            self._drawn = True
            bar.start()
            _bars.append(self)
        bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None and self._drawn:
            _bars.remove(self)
            self._bar.stop()


def say(message: str) -> None:
    """Prints one line on standard error, above the progress bar if one stands there."""
    if _bars:
        _bars[-1].note(message)
    else:
        print(message, file=sys.stderr, flush=True)


def _bar(stream: TextIO, *, transient: bool) -> Progress:
    """A bar that is drawn when it is told to, by no thread of its own."""
    width = None if stream is sys.stderr else os.get_terminal_size(stream.fileno()).columns
    one_line = Column(no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}", markup=False, table_column=one_line),
        console=Console(file=stream, width=width),
        auto_refresh=False,
        speed_estimate_period=3600.0,
        transient=transient,
        redirect_stdout=False,  # results, which may go elsewhere
        redirect_stderr=False,
    )


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
    known width.
    """
    if not stream.isatty() or os.environ.get("TERM", "") in ("dumb", "unknown"):
        return False
    return os.get_terminal_size(stream.fileno()).columns > 0
