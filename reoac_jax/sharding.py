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


def per_device(mesh: Mesh, function: Callable[..., Any], replicated: int) -> Callable[..., Any]:
    """`function` run by each device on its own share of the batch, with no communication.

    Args:
      function: pure; its first `replicated` arguments are whole on every device, the others and
        the result are split along axis 0.
    """

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        whole = (PartitionSpec(),) * replicated
        shares = (PartitionSpec(_AXIS),) * (len(arguments) - replicated)
        mapped = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=whole + shares,
            out_specs=PartitionSpec(_AXIS),
            check_vma=False,
        )
        return mapped(*arguments)

    return run


def split_weighted(mesh: Mesh, batch: Any) -> Any:
    """Puts a minibatch of any size on the mesh, filled up with entries that weigh nothing.

    batch: a named tuple of host arrays; its fields that end in "weight" become 0 in what is added.
    """
    size = len(batch[0])
    padded = pad_batch(batch, padded_size(mesh, size))
    real = np.arange(len(padded[0])) < size
    weights = {name: getattr(padded, name) * real for name in batch._fields if "weight" in name}
    return split(mesh, padded._replace(**weights))


def padded_size(mesh: Mesh, size: int) -> int:
    """The next multiple of the number of devices."""
    return -(-size // mesh.size) * mesh.size


def pad_batch(batch: Any, size: int) -> Any:
    """Repeats the first element of each host array until axis 0 has `size` entries."""

    def pad(x: np.ndarray) -> np.ndarray:
        missing = size - len(x)
        return np.concatenate([x, np.repeat(x[:1], missing, axis=0)]) if missing else x

    return jax.tree.map(pad, batch)
