"""A run's Orbax checkpoints: named pytrees and one JSON record an iteration.

Orbax writes under a temporary name and renames, so a killed save leaves the one before intact.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from reoac_jax.errors import InputError
from reoac_jax.orbax_output import quiet_orbax

RECORD = "record"
_METRIC = "reward"


class RunCheckpoints:
    """The folder `checkpoints/` of a run; use it in a `with` statement, or the last save is lost.

    The latest `keep_latest` and the `keep_best` by reward are kept.
    """

    def __init__(self, folder: str | Path, keep_latest: int, keep_best: int):
        quiet_orbax()
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
        )
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def save(
        self, iteration: int, items: Mapping[str, Any], record: Mapping[str, Any], reward: float
    ) -> None:
        """Starts an asynchronous save.

        Args:
          items: non-empty pytrees of arrays, by name. record: JSON values.

        Raises:
          RuntimeError: a checkpoint of this or a later iteration is there already.
        """
        arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        arguments[RECORD] = ocp.args.JsonSave(dict(record))
        saved = self._manager.save(
            iteration, args=ocp.args.Composite(**arguments), metrics={_METRIC: float(reward)}
        )
        if not saved:
            raise RuntimeError(f"iteration {iteration} was not saved: a later checkpoint exists")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()


def find_checkpoint(path: str | Path) -> Path:
    """The folder of one checkpoint, given as `RUN`, `RUN/checkpoints` (the latest) or as it is.

    Raises `InputError` if there is none.
    """
    path = Path(path)
    if (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if not path.is_dir():
        raise InputError(f"checkpoint {path} is no folder; expected runs/<exp>/<time>/checkpoints")
    if (path / RECORD).is_dir():
        return path
    complete = [p for p in path.iterdir() if p.name.isdecimal() and (p / RECORD).is_dir()]
    if not complete:
        raise InputError(f"no checkpoint in {path}; expected folders named by iteration")
    return max(complete, key=lambda p: int(p.name))


def read_record(checkpoint: Path) -> dict[str, Any]:
    """The JSON record of one checkpoint folder. Raises `InputError` if it cannot be read."""
    quiet_orbax()
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            record = checkpointer.restore((checkpoint / RECORD).absolute())
    except (OSError, ValueError) as error:
        raise InputError(f"{checkpoint / RECORD} is damaged: {error}") from error
    if not isinstance(record, dict) or not {"iteration", "base_hash"} <= record.keys():
        raise InputError(f"{checkpoint / RECORD} is damaged: expected an iteration and a base_hash")
    return record


def read_item(checkpoint: Path, name: str, template: Any = None) -> Any:
    """One pytree of a checkpoint folder.

    Args:
      template: pytree of `jax.ShapeDtypeStruct`s (with shardings) to restore into; None gives the
        stored tree of dicts as NumPy arrays.

    Raises:
      InputError: the item is absent or damaged, or does not have the template's shapes.
    """
    folder = (checkpoint / name).absolute()
    if not folder.is_dir():
        raise InputError(f"checkpoint {checkpoint} has no {name}")
    quiet_orbax()
    with ocp.StandardCheckpointer() as checkpointer:
        # Orbax and TensorStore raise many kinds of errors for a damaged folder.
        try:
            stored = checkpointer.metadata(folder).item_metadata.tree
        except Exception as error:
            raise InputError(f"{folder} is damaged: its metadata cannot be read") from error
        if template is None:
            template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), stored)
        else:
            _check_shapes(folder, stored, template)
        try:
            return checkpointer.restore(folder, template)
        except Exception as error:
            raise InputError(f"{folder} is damaged: its arrays cannot be read") from error


def _check_shapes(folder: Path, stored: Any, template: Any) -> None:
    found = [list(x.shape) for x in jax.tree.leaves(stored)]
    wanted = [list(x.shape) for x in jax.tree.leaves(template)]
    if sorted(found) != sorted(wanted):
        raise InputError(
            f"{folder} does not fit the configuration: it holds arrays of shapes "
            f"{_brief(found)}, expected {_brief(wanted)}"
        )


def _brief(shapes: list[list[int]]) -> str:
    distinct = sorted({tuple(shape) for shape in shapes})
    return ", ".join(map(str, distinct[:6])) + (", ..." if len(distinct) > 6 else "")
