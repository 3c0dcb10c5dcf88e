"""Where the numbers of a run go: `metrics.jsonl` always, TensorBoard and Weights & Biases if asked.

`metrics.jsonl` is the record that a run is resumed from, so a failure to write it is the run's. The
other sinks are conveniences: one that fails is dropped with one line of warning.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

from ml_collections import ConfigDict

from reoac_jax.config import to_json
from reoac_jax.runs.folder import METRICS
from reoac_jax.runs.metrics import MetricsLog
from reoac_jax.system.progress import say

TENSORBOARD = "tensorboard"  # the event files' folder in the run's
_WANDB_PROJECT = "reoac_jax"


class Sink(Protocol):
    """A place beside `metrics.jsonl`. Any exception it raises ends it, and nothing else."""

    def append(self, iteration: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class MetricSinks:
    """All sinks of a run behind the interface of `MetricsLog`; use it in a `with` statement."""

    def __init__(self, run: Path, config: ConfigDict, keep_through: int | None = None):
        """Opens the sinks that `config.logging` names.

        Args:
          run: the run's folder. keep_through: as `MetricsLog` has it; None for a new run.

        Raises:
          InputError: as `MetricsLog` does; never for another sink.
        """
        self._log = MetricsLog(run / METRICS, keep_through)
        first = 0 if keep_through is None else keep_through + 1
        self._sinks: dict[str, Sink] = {}
        if config.logging.tensorboard:
            self._open(TENSORBOARD, lambda: TensorBoardSink(run / TENSORBOARD, first))
        if config.logging.wandb:
            self._open("wandb", lambda: WandbSink(run, config))

    def append(self, iteration: int, values: Mapping[str, Any]) -> None:
        """As `MetricsLog.append`; the other sinks get the numbers, `a.b` named `a/b`."""
        self._log.append(iteration, values)
        numbers = flat_numbers(values)
        for name, sink in list(self._sinks.items()):
            try:
                sink.append(iteration, numbers)
            except Exception as error:
                self._drop(name, error)

    def close(self) -> None:
        self._log.close()
        for name, sink in list(self._sinks.items()):
            try:
                sink.close()
            except Exception as error:
                self._drop(name, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, name: str, make: Callable[[], Sink]) -> None:
        try:
            self._sinks[name] = make()
        except Exception as error:
            self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        self._sinks.pop(name, None)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        say(
            f"warning: logging.{name} is off for the rest of this run ({reason}); {METRICS} goes on"
        )


class TensorBoardSink:
    """Scalars as TensorBoard event files, written and flushed by the caller's own thread.

    tensorboardX's `SummaryWriter` hands events to a thread over a bounded queue: when that thread
    dies of a full disk, the caller waits for ever.
    """

    def __init__(self, folder: Path, first: int):
        """first: iteration this run begins with; what earlier files hold from there on is void."""
        from tensorboardX import RecordWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        # The second alone would not do: a quick resume would overwrite the file before.
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{first}"
        self._writer = RecordWriter(str(folder / name))
        self._write(0, file_version="brain.Event:2")
        self._write(first, session_log=SessionLog(status=SessionLog.START))

    def append(self, iteration: int, values: Mapping[str, float]) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(iteration, summary=Summary(value=scalars))

    def close(self) -> None:
        self._writer.close()

    def _write(self, iteration: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        event = Event(step=iteration, wall_time=time.time(), **content)
        self._writer.write(event.SerializeToString())
        self._writer.flush()


class WandbSink:
    """Weights & Biases; a resumed run goes on under the same id.

    Entity, mode and the rest come from its own environment variables.
    """

    def __init__(self, run: Path, config: ConfigDict):
        try:
            import wandb
        except ImportError as error:
            raise ImportError(f"{error}; pip install 'reoac-jax[wandb]' brings it") from error

        name = f"{run.parent.name}-{run.name}"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _WANDB_PROJECT),
            name=name,
            id=f"{name}-{config.seed}",
            resume="allow",
            dir=run,
            config=to_json(config),
            # Quiet: this terminal is the progress bar's. Bounded: a dead network must not hold it.
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=60,
                finish_timeout=120,
                finish_timeout_raises=True,
            ),
        )

    def append(self, iteration: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=iteration)

    def close(self) -> None:
        self._run.finish()


def flat_numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers among nested values, `{"a": {"b": 1}}` as `{"a/b": 1.0}`; texts are left out."""
    numbers: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            numbers |= flat_numbers(value, f"{prefix}{key}/")
        elif not isinstance(value, str | list | tuple) and value is not None:
            numbers[f"{prefix}{key}"] = float(value)
    return numbers
