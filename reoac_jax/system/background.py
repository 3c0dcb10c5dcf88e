"""One piece of work at a time in a thread, beside the main one."""

import collections
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, Self, TypeVar

Result = TypeVar("Result")


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


class Ahead(Generic[Result]):
    """`make(item)` for each item in order, made in a thread before it is asked for.

    Iterate over it in a `with`. What a call raises is raised where its result is asked for.
    """

    def __init__(self, make: Callable[[Any], Result], items: Iterable[Any], depth: int = 2):
        """depth: how many results may wait, or be made, at a time."""
        self._make, self._items = make, iter(items)
        self._thread = ThreadPoolExecutor(1)
        self._made: collections.deque[Future] = collections.deque()
        for _ in range(depth):
            self._begin()

    def _begin(self) -> None:
        for item in self._items:
            self._made.append(self._thread.submit(self._make, item))
            return

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Result:
        if not self._made:
            raise StopIteration
        result = self._made.popleft().result()
        self._begin()
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown(cancel_futures=True)
