"""A pytree that Orbax wrote, read back into the shapes that are expected, compared by name."""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reoac_jax.runs.quiet_orbax import quiet_orbax
from reoac_jax.system.errors import InputError


def restore_pytree(
    folder: Path, template: Any = None, *, fits: str = "the configuration", concurrent_gb: int = 96
) -> Any:
    """The arrays in a folder.

    Args:
      folder: what Orbax wrote.
      template: pytree of `jax.ShapeDtypeStruct`s (with shardings) to restore into; None gives the
        stored tree of dicts as NumPy arrays.
      fits: what the template was made from, for the message.
      concurrent_gb: at most this much is in flight between disk and memory, or as much as the
        largest array needs.

    Raises:
      InputError: the folder is damaged, or an array is missing, unknown or of another shape.
    """
    ocp = quiet_orbax()
    folder = folder.absolute()
    with ocp.StandardCheckpointer() as checkpointer:
        # Orbax and TensorStore raise many kinds of errors for a damaged folder.
        try:
            stored = checkpointer.metadata(folder).item_metadata.tree
        except Exception as error:
            raise _damaged(folder) from error
    if template is None:
        template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), stored)
    # Before the arrays: Orbax finds a wrong shape only when others are already being read, and then
    # the reads it leaves behind print their own tracebacks.
    _check_shapes(folder, stored, template, fits)
    in_flight = gb_in_flight(stored, concurrent_gb)
    with ocp.StandardCheckpointer(restore_concurrent_gb=in_flight) as checkpointer:
        try:
            return checkpointer.restore(folder, template)
        except Exception as error:
            raise _damaged(folder) from error


def gb_in_flight(tree: Any, gb: int) -> int:
    """So many GB (10^9 bytes), or as many more as Orbax needs to move the largest array of a tree.

    It refuses an array that is not smaller than all that may be in flight.
    """
    sizes = (math.prod(x.shape) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))
    return max(gb, 1 + max(sizes, default=0) // 10**9)


def _damaged(folder: Path) -> InputError:
    return InputError(
        f"{folder} is damaged: the arrays in it cannot be read; expected them as they were written"
    )


def _check_shapes(folder: Path, stored: Any, template: Any, fits: str) -> None:
    found, wanted = _shapes(stored), _shapes(template)
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InputError(
                f"{folder} does not fit {fits}: {name or 'the array'} has shape "
                f"{found.get(name, 'none')}, expected {wanted.get(name, 'none')}"
            )


def _shapes(tree: Any) -> dict[str, list[int]]:
    """Path to shape of each array; parts joined by "/", fields and places as Orbax names them."""
    return {
        jax.tree_util.keystr(place, simple=True, separator="/"): list(leaf.shape)
        for place, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
