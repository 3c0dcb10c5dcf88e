"""A run while it goes on, for the commands that train: one place for all that they share."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from ml_collections import ConfigDict

from reoac_jax.config import to_json
from reoac_jax.devices import processes
from reoac_jax.runs.checkpoints import RunCheckpoints, latest_checkpoint
from reoac_jax.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    RunLock,
    create_run,
    open_run,
    stopped_from_outside,
)
from reoac_jax.runs.sinks import MetricSinks
from reoac_jax.system.background import Background
from reoac_jax.system.files import write_json
from reoac_jax.system.interrupt import Interrupt
from reoac_jax.system.progress import ProgressLine
from reoac_jax.system.shell import shell_command

Resource = TypeVar("Resource")


class Session:
    """The folder, lock, signals, checkpoints, metrics, progress and exit code of a run.

    Made first, so that a run that is in use is refused before anything is loaded; `start`ed when
    all is loaded, so that a mistake found before leaves no folder behind; `finish`ed after the
    loop. Every process of a run has one, and the first alone writes and talks. Used in a `with`.

    Attributes, before `start`:
      checkpoint: where a resumed run goes on; None: at the beginning.

    And after it:
      run: its folder. interrupt, background: as their classes say.
      saved: what was done when it was last saved; None if nothing is saved yet.
    """

    run: Path
    interrupt: Interrupt
    background: Background
    saved: int | None

    def __init__(self, command: str, resume: str | None):
        """command: in the package, to go on with. resume: a run's folder to go on in; None: none.

        Entering it raises `InputError` if that run is in use or cannot be written, or all of its
        checkpoints are damaged.
        """
        self._command, self._resume = command, resume
        self._held = contextlib.ExitStack()  # to the end
        self._loop = contextlib.ExitStack()  # while the loop runs
        self.checkpoint: Path | None = None

    def __enter__(self) -> Self:
        self._lock = self._held.enter_context(RunLock())
        if self._resume is not None:
            run = self._resume

            def latest() -> str:
                found = latest_checkpoint(open_run(run, self._lock) / CHECKPOINTS)
                return "" if found is None else str(found)

            try:
                found = processes.broadcast(latest)
            except BaseException:
                self._held.close()
                raise
            self.run, self.checkpoint = Path(run), Path(found) if found else None
        return self

    def hold(self, resource: contextlib.AbstractContextManager[Resource]) -> Resource:
        """Enters a context that ends with the session."""
        return self._held.enter_context(resource)

    @property
    def resumed(self) -> bool:
        return self._resume is not None

    def start(
        self,
        config: ConfigDict,
        *,
        activity: str,
        unit: str,
        total: int,
        done: int,
        last_line: int,
        keep_best: int,
    ) -> None:
        """Makes the folder of a new run, and opens what is written while the loop runs.

        Args:
          activity, unit: for the progress line. total, done: units in all, and behind a resumed
            run. last_line: the number of the last line of metrics that stays. keep_best: as
            `RunCheckpoints` has it.
        """
        self._unit, self._total = unit, total
        if self.resumed:
            self.say(f"run folder {self.run}: going on after {done} of {total} {unit}s")
        else:
            made = processes.broadcast(lambda: str(create_run(config, self._lock)))
            self.run = Path(made)
            self.say(f"run folder {self.run}")
        self.saved = done if self.checkpoint is not None else None
        enter = self._loop.enter_context
        enter(stopped_from_outside(self.run))
        self.interrupt = enter(Interrupt())
        self._checkpoints = enter(
            RunCheckpoints(
                self.run / CHECKPOINTS, config.checkpoint.keep_latest, keep_best,
                after=self.checkpoint,
            )
        )  # fmt: skip
        self._log: MetricSinks | None = None
        self._progress: ProgressLine | None = None
        if processes.is_first():
            if self.resumed:  # how long it is may have changed
                write_json(self.run / CONFIG, to_json(config))
            self._log = enter(MetricSinks(self.run, config, keep_through=last_line))
            self._progress = enter(ProgressLine(total, activity, done=done, unit=unit))
        self.background = enter(Background())

    def log(self, number: int, values: Mapping[str, Any]) -> None:
        """Writes a line of metrics."""
        if self._log is not None:
            self._log.append(number, values)

    def progress(self, count: int, shown: Mapping[str, Any]) -> None:
        """`count` further units are done; `shown` stands beside the progress."""
        if self._progress is not None:
            self._progress.update(count, **shown)

    def note(self, line: str) -> None:
        """Prints a line above the progress."""
        if self._progress is not None:
            self._progress.note(line)

    def say(self, line: str) -> None:
        """Prints a line on standard output."""
        if processes.is_first():
            print(line)

    def save(
        self,
        done: int,
        number: int,
        items: Mapping[str, Any],
        record: Mapping[str, Any],
        reward: float = 0.0,
    ) -> None:
        """Starts to save the state after `done` units, as the checkpoint of that `number`.

        The rest is as `RunCheckpoints.save` has it.
        """
        self.background.wait()  # a run that goes on from here has before it what was written there
        self._checkpoints.save(number, items, record, reward)
        self.saved = done

    @property
    def asked(self) -> bool:
        """Whether any process was asked to stop; all must ask."""
        return processes.all_reduce_max(self.interrupt.exit_code) > 0

    def finish(self, done: int) -> int:
        """Ends the loop after `done` units, and says how to go on where some are left.

        Returns the exit code: 0 if all is done, else that of the signal.
        """
        self._loop.close()
        # No process leaves, and is missed, before the first has finished the last save.
        code = processes.all_reduce_max(self.interrupt.exit_code)
        if done >= self._total:
            return 0
        if processes.is_first():
            again = shell_command(self._command, "--resume", self.run)
            print(
                f"stopped after {done} of {self._total} {self._unit}s; go on with: {again}",
                file=sys.stderr,
            )
        return code

    def __exit__(self, *exception: Any) -> None:
        with self._held:
            self._loop.__exit__(*exception)
