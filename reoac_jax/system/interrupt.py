"""Ctrl-C and SIGTERM as a request that a training loop answers by saving and stopping."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Schedulers and `timeout` signal a process and its group: that is one request, not two.
_ONE_REQUEST = 1.0  # seconds


class Interrupted(Exception):
    """Work was abandoned because the user or the cluster asked the run to stop."""


class Interrupt:
    """SIGINT and SIGTERM: the first asks the loop to stop at the next safe place, the second kills.

    Attributes:
      asked: whether a signal came.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._when = 0.0

    @property
    def asked(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM; 0 if nothing was asked."""
        return 0 if self._signal is None else 128 + self._signal

    def until_asked(
        self, items: Iterable[Any], anywhere: Callable[[bool], bool] = bool
    ) -> Iterator[Any]:
        """Passes `items` on; raises `Interrupted` in the place of the next one once asked.

        anywhere: of whether this process was asked, whether one was of those that must stop at the
          same item.
        """
        for item in items:
            if anywhere(self.asked):
                raise Interrupted
            yield item

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self._signal is None:
            self._signal, self._when = number, time.monotonic()
            # Not print: the signal may have come in the middle of one.
            with contextlib.suppress(OSError):  # standard error may be closed, or full
                os.write(2, b"\nstopping: saving what is done (once more to lose it)\n")
        elif time.monotonic() - self._when > _ONE_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
