"""Where arrays live: the one place that knows the devices and the mesh's axis.

Data parallelism is `jit` over a one-axis mesh, the successor of `pmap`: batches are split along
their first axis, everything else is replicated.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over the devices (default: all of them)."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def split(mesh: Mesh, batch: Any) -> Any:
    """Puts host arrays on the mesh, split along axis 0, which the devices must divide."""
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec(_AXIS)))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Puts a pytree on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def per_device(
    mesh: Mesh, function: Callable[..., Any], replicated: int, out_batch_axes: Any
) -> Callable[..., Any]:
    """`function` run by each device on its own share of the batch, with no communication.

    Args:
      function: pure; its first `replicated` arguments are whole, the others split along axis 0.
      out_batch_axes: a pytree prefix of the result: the batch's axis in each part.
    """
    out_specs = jax.tree.map(lambda axis: PartitionSpec(*([None] * axis), _AXIS), out_batch_axes)

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        split_count = len(arguments) - replicated
        in_specs = (PartitionSpec(),) * replicated + (PartitionSpec(_AXIS),) * split_count
        return jax.shard_map(
            function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )(*arguments)

    return run


def padded_size(mesh: Mesh, size: int) -> int:
    """The next multiple of the number of devices."""
    return -(-size // mesh.size) * mesh.size


def pad_batch(batch: Any, size: int) -> Any:
    """Repeats the first element of each host array until axis 0 has `size` entries."""

    def pad(x: np.ndarray) -> np.ndarray:
        missing = size - len(x)
        return np.concatenate([x, np.repeat(x[:1], missing, axis=0)]) if missing else x

    return jax.tree.map(pad, batch)
