"""A run's Orbax checkpoints: named pytrees and one JSON record an iteration.

Orbax writes under a temporary name and renames, so a killed save leaves the one before intact.
Before the rename the checksums of all files are added, so that damage done later is found.
"""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from reoac_jax.devices import processes
from reoac_jax.runs.checksums import find_damage, write_checksums
from reoac_jax.runs.pytrees import restore_pytree
from reoac_jax.runs.quiet_orbax import quiet_orbax
from reoac_jax.system import formats
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import looked_in

RECORD = "record"
DAMAGED = "damaged"  # beside the folder of checkpoints: where damaged ones are put aside
_METRIC = "reward"
_TIMES = "_CHECKPOINT_METADATA"  # Orbax writes into it once more, after the rename
_UNFINISHED = "*.orbax-checkpoint-tmp*"


class RunCheckpoints:
    """The folder `checkpoints/` of a run; use it in a `with` statement, or the last save is lost.

    The latest `keep_latest` and the `keep_best` by reward are kept.
    """

    def __init__(
        self, folder: str | Path, keep_latest: int, keep_best: int, *, after: Path | None = None
    ):
        """Opens the folder for going on after the checkpoint `after`; None: from the beginning.

        Later checkpoints, which are damaged, are put aside; what a killed save or removal left of
        others is deleted.
        """
        ocp = quiet_orbax()
        self._folder = Path(folder).absolute()
        processes.broadcast(lambda: _clear(self._folder, after))
        policies = ocp.checkpoint_managers
        policy = policies.AnyPreservationPolicy(
            [
                policies.LatestN(keep_latest),
                policies.BestN(get_metric_fn=lambda metrics: metrics[_METRIC], n=keep_best),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            # Without it the metric is not stored, and a resumed run would not know its best.
            best_fn=lambda metrics: metrics[_METRIC],
            # Orbax calls it when all files of a save are written, and only then renames its folder.
            async_options=ocp.options.AsyncOptions(post_finalization_callback=self._add_checksums),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(
        self, iteration: int, items: Mapping[str, Any], record: Mapping[str, Any], reward: float
    ) -> None:
        """Starts an asynchronous save.

        Args:
          items: non-empty pytrees of arrays, by name. record: JSON values.

        Raises:
          RuntimeError: a checkpoint of this or a later iteration is there already.
          OSError: this save cannot be started, or the one before could not be written.
        """
        ocp = quiet_orbax()
        arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        arguments[RECORD] = ocp.args.JsonSave({formats.KEY: formats.RUN, **record})
        with _failed_write():
            saved = self._manager.save(
                iteration, args=ocp.args.Composite(**arguments), metrics={_METRIC: float(reward)}
            )
        if not saved:
            raise RuntimeError(f"iteration {iteration} was not saved: a later checkpoint exists")

    def _add_checksums(self) -> None:
        (unfinished,) = self._folder.glob(_UNFINISHED)
        write_checksums(unfinished, leave_out=[_TIMES])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with _failed_write():
            self._manager.close()


@contextlib.contextmanager
def _failed_write() -> Iterator[None]:
    """TensorStore reports a failed write as a `ValueError` of many words, the cause among them."""
    try:
        yield
    except ValueError as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        cause = os.strerror(int(code[1])) if code else str(error)
        raise OSError(f"a checkpoint could not be written: {cause}") from error


def _iterations(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the latest first."""
    found = [path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _clear(folder: Path, after: Path | None) -> None:
    if not folder.is_dir():
        return
    for unfinished in folder.glob(_UNFINISHED):
        shutil.rmtree(unfinished)
    kept = -1 if after is None else int(after.name)
    for checkpoint in _iterations(folder):
        if int(checkpoint.name) > kept:
            aside = folder.parent / DAMAGED
            aside.mkdir(exist_ok=True)
            shutil.rmtree(aside / checkpoint.name, ignore_errors=True)
            os.replace(checkpoint, aside / checkpoint.name)
        elif find_damage(checkpoint, contents=False):
            shutil.rmtree(checkpoint)


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The latest sound checkpoint in `checkpoints/` of a run; None if none was ever finished.

    Names later ones that are damaged on standard error. Raises `InputError` if all are damaged.
    """
    folder = Path(folder)
    damaged: list[str] = []
    for checkpoint in _iterations(folder) if folder.is_dir() else []:
        damage = find_damage(checkpoint)
        if damage is None:
            for line in damaged:
                print(f"warning: {line}; going back to {checkpoint}", file=sys.stderr)
            return checkpoint
        damaged.append(f"checkpoint {checkpoint} is damaged: {damage}")
    if damaged:
        raise InputError(f"{damaged[0]}; expected it, or one before it in {folder}, to be whole")
    return None


def find_checkpoint(path: str | Path) -> Path:
    """The folder of one checkpoint, given as `RUN`, `RUN/checkpoints` (the latest) or as it is.

    Raises `InputError` if there is none, or if the one named is damaged.
    """
    path = Path(path)
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if not path.is_dir():
        raise InputError(
            f"checkpoint {path} is no folder{looked_in(path)};"
            " expected runs/<exp>/<time>/checkpoints"
        )
    if path.name.isdecimal() or (path / RECORD).is_dir():
        damage = find_damage(path)
        if damage is not None:
            raise InputError(f"checkpoint {path} is damaged: {damage}; expected it to be whole")
        return path
    latest = latest_checkpoint(path)
    if latest is None:
        raise InputError(f"no checkpoint in {path}; expected folders named by iteration")
    return latest


def read_record(checkpoint: Path) -> dict[str, Any]:
    """The JSON record of one checkpoint folder.

    Raises `InputError` if it cannot be read or the checkpoint has another format.
    """
    ocp = quiet_orbax()
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            record = checkpointer.restore((checkpoint / RECORD).absolute())
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint / RECORD} is damaged: {error}") from error
    if not isinstance(record, dict) or not {"iteration", "base_hash"} <= record.keys():
        raise InputError(f"{checkpoint / RECORD} is damaged: expected an iteration and a base_hash")
    formats.check_format(record, f"checkpoint {checkpoint}", formats.RUN)
    return record


def read_item(checkpoint: Path, name: str, template: Any = None) -> Any:
    """One pytree of a checkpoint folder.

    Args:
      template: pytree of `jax.ShapeDtypeStruct`s (with shardings) to restore into; None gives the
        stored tree of dicts as NumPy arrays.

    Raises:
      InputError: the item is absent or damaged, or does not have the template's shapes.
    """
    folder = checkpoint / name
    if not folder.is_dir():
        raise InputError(f"checkpoint {checkpoint} has no {name}; expected it there")
    return restore_pytree(folder, template)
