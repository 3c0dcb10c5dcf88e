"""The folder of a run: `<output_dir>/<exp_name>/<timestamp>/` (DESIGN.md, section 11)."""

import contextlib
import datetime
import fcntl
import itertools
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from ml_collections import ConfigDict

from reoac_jax.config import to_json
from reoac_jax.system.errors import InputError, RunError
from reoac_jax.system.files import looked_in, remove_unfinished, write_json
from reoac_jax.system.shell import shell_command

CONFIG = "config.json"
METRICS = "metrics.jsonl"
SAMPLES = "samples"
CHECKPOINTS = "checkpoints"
REPORT = "report"
_LOCK = ".lock"


def evaluate_command(run: Path, order: Sequence[str]) -> str:
    """What evaluates a run of `train`: its actor, or where none learned the order that was fixed.

    order: the configuration's `train.order`.
    """
    policy = ("--policy", ",".join(order)) if order else ()
    return shell_command(
        "evaluate", "--config", run / CONFIG, "--checkpoint", run / CHECKPOINTS, *policy,
        "--output", run / "evaluation.json",
    )  # fmt: skip


class RunLock:
    """Keeps a run's folder to one writing process; the lock dies with it. Use it in a `with`."""

    def __init__(self) -> None:
        self._file: int | None = None

    def take(self, run: Path) -> None:
        """Raises `InputError` if a live process writes to `run`."""
        file = os.open(run / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace").strip()
            os.close(file)
            raise InputError(
                f"{run} is in use by {holder or 'a live process'}; expected a run that has stopped"
            ) from None
        except OSError as error:  # some network file systems know no locks
            print(
                f"warning: {run} cannot be locked ({error.strerror}); start no other process on it",
                file=sys.stderr,
            )
        else:
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def create_run(config: ConfigDict, lock: RunLock) -> Path:
    """Makes a new folder, unlike any other run's, and writes the configuration into it."""
    parent = Path(config.output_dir) / config.exp_name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        for count in itertools.count(1):
            run = parent / (stamp if count == 1 else f"{stamp}-{count}")
            try:
                run.mkdir()
                break
            except FileExistsError:
                continue
        lock.take(run)
        write_json(run / CONFIG, to_json(config))
    except OSError as error:
        raise InputError(
            f"cannot make a run folder in {parent} ({error.strerror}); expected output_dir and "
            "exp_name to name a place that can be written"
        ) from error
    return run


def run_config(path: str | Path) -> Path:
    """The configuration of an existing run. Raises `InputError` if `path` is no run folder."""
    run = Path(path)
    if not (run / CONFIG).is_file():
        raise InputError(
            f"{run} is no run folder{looked_in(run)}: it has no {CONFIG};"
            " expected runs/<exp>/<time>"
        )
    return run / CONFIG


def open_run(path: str | Path, lock: RunLock) -> Path:
    """An existing run's folder, for going on in it; what a killed process left half is removed.

    Raises `InputError` if it is none, cannot be written, or is in use.
    """
    run = run_config(path).parent
    try:
        lock.take(run)
        remove_unfinished(run)
    except OSError as error:
        raise InputError(
            f"cannot write to {run} ({error.strerror}); expected a run folder that can be written"
        ) from error
    return run


@contextlib.contextmanager
def stopped_from_outside(run: Path) -> Iterator[None]:
    """What stops a run through no fault of the program, as a `RunError` of one line.

    A full disk, a permission that was lost, numbers that are no longer finite.
    """
    try:
        yield
    except FloatingPointError as error:
        raise RunError(f"{error}; the run stopped without saving it, {_saved(run)}") from error
    except OSError as error:
        raise RunError(f"{error}; the run stopped, {_saved(run)}") from error


def _saved(run: Path) -> str:
    """What is left of a run that stopped, in words."""
    folder = run / CHECKPOINTS
    with contextlib.suppress(OSError):  # the disk may be gone
        if any(path.name.isdecimal() for path in folder.iterdir()):
            return f"the last checkpoint in {folder} is intact"
    return f"before it had saved a checkpoint in {folder}"


def newest_checkpoints(config: ConfigDict) -> Path:
    """`checkpoints/` of the newest run of this configuration's `exp_name` that has one saved."""
    parent = Path(config.output_dir) / config.exp_name
    runs = [
        run
        for run in (parent.iterdir() if parent.is_dir() else ())
        # Fine-tuning leaves runs here too; only a policy's checkpoint has an actor.
        if any((run / CHECKPOINTS).glob("[0-9]*/actor"))
    ]
    if not runs:
        raise InputError(
            f"no run with a checkpoint in {parent}; expected one from python -m reoac_jax.train, "
            "or --checkpoint"
        )
    return max(runs, key=_age) / CHECKPOINTS


def _age(run: Path) -> tuple[str, int, str]:
    """Orders runs by when they began, as their names say it; folders of other names come first.

    When a folder was changed says nothing: copying, cleaning up or a report changes it too.
    """
    stamp = re.fullmatch(r"(\d{8}-\d{6})(?:-(\d+))?", run.name)
    return ("", 0, run.name) if stamp is None else (stamp[1], int(stamp[2] or 1), run.name)
