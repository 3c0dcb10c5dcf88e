"""Worker processes that grade with a hard time limit for each item.

`multiprocessing` (and every pool built on it) imports the command line's main module again in a
spawned worker, and with it jax; so the workers are plain child processes that talk in lines of
JSON. They start when first needed and import no jax.
"""

import contextlib
import json
import os
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from reoac_jax.system.errors import RunError

_START_LIMIT = 120.0  # seconds until a worker has imported SymPy, on a machine that is busy
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]


class Verdict(NamedTuple):
    """`failed`: out of time, crashed, or its worker died twice; then `correct` is False."""

    correct: bool
    extracted: str | None
    failed: bool


_FAILED = Verdict(False, None, True)


class GradingPool:
    """Grades (text, answer) pairs with `math-verify` in `workers` processes.

    An item that takes longer than `timeout` seconds is stopped and failed. An item whose worker
    died is tried once more on a new worker, then failed. Everything else goes on.
    """

    def __init__(self, workers: int, timeout: float):
        self._timeout = timeout
        self._workers = [_Worker(timeout) for _ in range(workers)]
        self._lock = threading.Lock()

    def judge(self, items: Sequence[tuple[str, str]]) -> list[Verdict]:
        """One verdict for each (text, answer). Raises `RunError` if no worker can start."""
        if not items:
            return []
        verdicts: list[Verdict] = [_FAILED] * len(items)
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(items)):
            waiting.put(index)

        def serve(worker: _Worker) -> None:
            with contextlib.suppress(queue.Empty):
                while True:
                    index = waiting.get_nowait()
                    verdicts[index] = self._judge_one(worker, *items[index])

        with self._lock:
            busy = self._workers[: len(items)]
            with ThreadPoolExecutor(len(busy)) as threads:
                running = [threads.submit(serve, worker) for worker in busy]
                try:
                    for served in running:
                        served.result()
                except BaseException:  # an interrupt leaves after the items in work, not after all
                    with contextlib.suppress(queue.Empty):
                        while True:
                            waiting.get_nowait()
                    raise
        return verdicts

    def close(self) -> None:
        """Ends all workers; a later `judge` starts new ones."""
        for worker in self._workers:
            worker.stop()

    @property
    def process_ids(self) -> list[int]:
        """Ids of the workers that were started and not stopped."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def _judge_one(self, worker: "_Worker", text: str, answer: str) -> Verdict:
        for _ in range(2):
            try:
                reply = worker.ask({"text": text, "answer": answer})
            except TimeoutError:
                return _FAILED
            except EOFError:
                continue
            if "error" in reply:
                return _FAILED
            return Verdict(reply["correct"], reply["extracted"], False)
        return _FAILED


class _Worker:
    """One child process, started on demand and after each death."""

    def __init__(self, timeout: float):
        self._timeout = timeout
        self.process: subprocess.Popen | None = None

    def ask(self, request: dict[str, Any]) -> Any:
        """The worker's reply. Raises `TimeoutError` or, if the worker died, `EOFError`.

        Raises `RunError` if a new worker ends by itself before it is ready.
        """
        if self.process is None:
            self._start()
        assert self.process is not None and self.process.stdin is not None
        try:
            # A worker that waits for work reads at once, so this cannot block for long.
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise EOFError(self.stop()) from None
        return self._reply(self._timeout)

    def stop(self) -> int:
        """Ends the process, if it has not ended; its exit status, negative for a signal."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.kill()
        for pipe in filter(None, (process.stdin, process.stdout)):
            with contextlib.suppress(OSError):
                pipe.close()
        return process.wait()

    def _start(self) -> None:
        path = os.pathsep.join(filter(None, [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "reoac_jax.tasks.math_worker", str(self._timeout)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            self._reply(_START_LIMIT)
        except TimeoutError as error:
            raise EOFError("too slow") from error
        except EOFError as death:
            if death.args[0] < 0:  # killed, as it may be at any time
                raise
            raise RunError(
                f"the grading process does not start; {' '.join(command)} shows why"
            ) from death

    def _reply(self, limit: float) -> Any:
        """The next line; on failure the worker is stopped."""
        assert self.process is not None and self.process.stdout is not None
        deadline = time.monotonic() + limit
        received = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not received.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.stop()
                    raise TimeoutError
                chunk = os.read(self.process.stdout.fileno(), 1 << 16)
                if not chunk:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(1.0)  # for its own exit status, before it is killed
                    raise EOFError(self.stop())
                received += chunk
        return json.loads(received)
