"""Where arrays live: the one place that knows the devices and the mesh's axis.

Data parallelism is `jit` over a one-axis mesh, the successor of `pmap`: batches are split along
their first axis, everything else is replicated, but for parameters that `split_parameters` cuts in
parts (FSDP: Zhao et al. 2023, arXiv 2304.11277). The mesh may span several processes; each then
holds the whole of what is on its host, and puts what its own devices need of it there.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over the devices (default: all of them, of every process)."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def split(mesh: Mesh, batch: Any) -> Any:
    """Puts host arrays on the mesh, split along axis 0, which the devices must divide."""
    return _place(batch, lambda shape: NamedSharding(mesh, PartitionSpec(_AXIS)))


def replicate(mesh: Mesh, tree: Any) -> Any:
    """Puts a pytree, the same in every process, on every device of the mesh."""
    return _place(tree, lambda shape: NamedSharding(mesh, PartitionSpec()))


def split_parameters(mesh: Mesh, tree: Any) -> Any:
    """Puts parameters, or their optimiser's state, on the mesh, each device a part of every array.

    An array is cut along the longest of its axes that the devices divide, and is whole on every
    device where there is none.
    """
    return _place(tree, functools.partial(_part, mesh))


def keep_split(mesh: Mesh, tree: Any) -> Any:
    """Inside `jit`: the tree, placed as `split_parameters` places it."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, _part(mesh, x.shape)), tree)


def gather_parameters(mesh: Mesh, tree: Any) -> Any:
    """Inside `jit`: whole copies of split parameters; their gradients are split again."""

    @jax.custom_vjp
    def gather(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, whole(mesh))

    def forward(x: jax.Array) -> tuple[jax.Array, None]:
        return gather(x), None

    def backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        return (keep_split(mesh, gradient),)

    gather.defvjp(forward, backward)
    return jax.tree.map(gather, tree)


def whole(mesh: Mesh) -> NamedSharding:
    """For `out_shardings`: the whole result on every device."""
    return NamedSharding(mesh, PartitionSpec())


def on_own_devices(mesh: Mesh, tree: Any) -> Any:
    """Replicated arrays as this process's devices hold them; nothing is copied.

    mesh: of this process's devices. What is computed from the result, no other process takes part
    in.
    """

    def own(x: jax.Array) -> jax.Array:
        copies = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, whole(mesh), copies)

    return jax.tree.map(own, tree)


def _part(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
    divided = [axis for axis, size in enumerate(shape) if size and size % mesh.size == 0]
    if not divided:
        return whole(mesh)
    longest = max(divided, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*(None,) * longest, _AXIS))


def _place(tree: Any, sharding_of: Callable[[Sequence[int]], NamedSharding]) -> Any:
    def put(x: Any) -> jax.Array | jax.ShapeDtypeStruct:
        sharding = sharding_of(np.shape(x))
        if isinstance(x, jax.ShapeDtypeStruct):  # to compile for arrays that do not exist
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
        if sharding.is_fully_addressable:
            return jax.device_put(x, sharding)
        # Each process fills its own devices: the value is the same everywhere, or must not travel.
        parts = [
            jax.device_put(x[index], device)
            for device, index in sharding.addressable_devices_indices_map(np.shape(x)).items()
        ]
        return jax.make_array_from_single_device_arrays(np.shape(x), sharding, parts)

    return jax.tree.map(put, tree)


def per_device(mesh: Mesh, function: Callable[..., Any], replicated: int) -> Callable[..., Any]:
    """`function` run by each device on its own share of the batch, with no communication.

    Args:
      function: pure; its first `replicated` arguments are whole on every device, the others and
        the result are split along axis 0.
    """

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        copies = (PartitionSpec(),) * replicated
        shares = (PartitionSpec(_AXIS),) * (len(arguments) - replicated)
        mapped = jax.shard_map(
            function,
            mesh=mesh,
            in_specs=copies + shares,
            out_specs=PartitionSpec(_AXIS),
            check_vma=False,
        )
        return mapped(*arguments)

    return run


def split_padded(mesh: Mesh, batch: Any, parts: int = 1) -> tuple[Any, jax.Array]:
    """Puts a minibatch of any size on the mesh, filled up with entries that must not count.

    Args:
      batch: pytree of host arrays `[N, ...]`. parts: its microbatches, each of which the devices
        must be able to share.

    Returns:
      The batch, and float32 `[M]`: 1 for its own entries, 0 for those that were added.
    """
    size = len(jax.tree.leaves(batch)[0])
    whole_size = parts * padded_size(mesh, -(-size // parts))
    real = (np.arange(whole_size) < size).astype(np.float32)
    return split(mesh, (pad_batch(batch, whole_size), real))


def padded_size(mesh: Mesh, size: int) -> int:
    """The next multiple of the number of devices."""
    return -(-size // mesh.size) * mesh.size


def pad_batch(batch: Any, size: int) -> Any:
    """Repeats the first element of each host array until axis 0 has `size` entries."""

    def pad(x: np.ndarray) -> np.ndarray:
        missing = size - len(x)
        return np.concatenate([x, np.repeat(x[:1], missing, axis=0)]) if missing else x

    return jax.tree.map(pad, batch)
