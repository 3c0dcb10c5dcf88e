"""One piece of work at a time in a thread, beside the main one."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self


class Background:
    """Runs one call after the other; an error is raised by what follows. Used in a `with`."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._running: Future | None = None

    def run(self, function: Callable[..., None], *arguments: Any) -> None:
        """Starts a call, when the one before it is done."""
        self.wait()
        self._running = self._thread.submit(function, *arguments)

    def wait(self) -> None:
        """Waits for the last call. Raises what it raised."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type | None, *rest: object) -> None:
        try:
            if error is None:
                self.wait()
        finally:
            self._thread.shutdown()
