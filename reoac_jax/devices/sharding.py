"""Where arrays live: the one place that knows the devices and the mesh's axis.

Data parallelism is `jit` over a one-axis mesh, the successor of `pmap`: batches are split along
their first axis, everything else is replicated, but for parameters that `split_parameters` cuts in
parts (FSDP: Zhao et al. 2023, arXiv 2304.11277). The mesh may span several processes; each then
holds the whole of what is on its host, and puts what its own devices need of it there.

Parts are gathered where they are used. What was gathered for a loss is not kept for its gradient
but gathered again, and the inside of each block computed again (`gathering_again`); what a loop of
rollouts gathers is let go after each pass, and its devices make every pass together (`anywhere`),
since each waits for the others' parts.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_AXIS = "data"
_SAVED = "saved for the gradient"
# How the leaves of a tree lie, in their order; None: on no mesh.
Placement = tuple[NamedSharding | None, ...]


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


def place_parameters(mesh: Mesh, tree: Any, fsdp: bool) -> Any:
    """Puts parameters, or their optimiser's state, on the mesh: in parts, or whole everywhere."""
    return split_parameters(mesh, tree) if fsdp else replicate(mesh, tree)


def parameter_sharding(mesh: Mesh, shape: Sequence[int]) -> NamedSharding:
    """How `split_parameters` places an array of this shape: to read it from a disk in parts."""
    return _part(mesh, shape)


def placement(tree: Any) -> Placement:
    """How the arrays of a tree, or their shapes, lie."""
    found = (getattr(x, "sharding", None) for x in jax.tree.leaves(tree))
    return tuple(x if isinstance(x, NamedSharding) else None for x in found)


def keep_placed(tree: Any, placement: Placement) -> Any:
    """Inside `jit`: the tree, its leaves placed so."""
    leaves, structure = jax.tree.flatten(tree)
    kept = (
        x if where is None else jax.lax.with_sharding_constraint(x, where)
        for x, where in zip(leaves, placement, strict=True)
    )
    return jax.tree.unflatten(structure, kept)


def keep_split(mesh: Mesh, tree: Any) -> Any:
    """Inside `jit`: the tree, placed as `split_parameters` places it."""
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, _part(mesh, x.shape)), tree)


def gather_parameters(mesh: Mesh, tree: Any) -> Any:
    """Inside `jit`: whole copies of split parameters; their gradients are split again.

    Differentiate what uses them through `gathering_again`, or they are held until the backward pass
    is done.
    """

    @jax.custom_vjp
    def gather(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, whole(mesh))

    def forward(x: jax.Array) -> tuple[jax.Array, None]:
        return gather(x), None

    def backward(_: None, gradient: jax.Array) -> tuple[jax.Array]:
        return (keep_split(mesh, gradient),)

    gather.defvjp(forward, backward)
    return jax.tree.map(gather, tree)


def saved(tree: Any) -> Any:
    """The same arrays, marked as what a gradient through `gathering_again` keeps."""
    return jax.tree.map(lambda x: checkpoint_name(x, _SAVED), tree)


def gathering_again(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The function, whose gradient keeps what is marked by `saved` and computes all else once more.

    The parameters are so gathered once more. A policy that kept everything but them would keep the
    inside of each block and the logits as well, for a policy rules over every `jax.checkpoint`
    inside the function.
    """
    return jax.checkpoint(loss, policy=jax.checkpoint_policies.save_only_these_names(_SAVED))


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


def to_host(tree: Any) -> Any:
    """The arrays as NumPy has them; of several processes all must ask, and all get the whole."""

    def fetch(x: Any) -> Any:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return multihost_utils.process_allgather(x, tiled=True)
        return x

    return jax.device_get(jax.tree.map(fetch, tree))


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
        if isinstance(x, jax.Array) and not x.is_fully_addressable:  # it was read in parts
            return x if x.sharding == sharding else _moved(x, sharding)
        # Each process fills its own devices: the value is the same everywhere, or must not travel.
        parts = [
            jax.device_put(x[index], device)
            for device, index in sharding.addressable_devices_indices_map(np.shape(x)).items()
        ]
        return jax.make_array_from_single_device_arrays(np.shape(x), sharding, parts)

    return jax.tree.map(put, tree)


@dataclasses.dataclass(frozen=True)
class OwnParts:
    """Parameters inside `per_device`: the device's own parts of them.

    tree: the parts. specs: a tree of `PartitionSpec`s, of how the whole is cut.
    """

    tree: Any
    specs: Any

    def whole(self, after: Any) -> Any:
        """The parameters, a copy; all devices must ask together.

        after: arrays that are needed before: those of a loop's turn keep XLA from gathering once
          for all turns, which would hold all parameters whole all the time.
        """
        tree, _ = jax.lax.optimization_barrier((self.tree, after))

        def gather(spec: PartitionSpec, part: jax.Array) -> jax.Array:
            if _AXIS not in spec:
                return part
            return jax.lax.all_gather(part, _AXIS, axis=len(spec) - 1, tiled=True)

        is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
        return jax.tree.map(gather, self.specs, tree, is_leaf=is_spec)


def anywhere(flag: jax.Array) -> jax.Array:
    """Inside `per_device`, bool `[]`: whether the flag is set on some device. All must ask."""
    return jax.lax.pmax(flag.astype(jnp.int32), _AXIS) > 0


def _moved(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.jit(lambda x: x, out_shardings=sharding)(x)


def per_device(
    mesh: Mesh, function: Callable[..., Any], replicated: int, in_parts: bool = False
) -> Callable[..., Any]:
    """`function` run by each device on its own share of the batch.

    There is no communication but what `OwnParts.whole` and `anywhere` make.

    Args:
      function: pure; its first `replicated` arguments are whole on every device, the others and
        the result are split along axis 0.
      in_parts: the first argument lies in parts, as `split_parameters` places it, and comes as
        `OwnParts`.
    """

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        specs: list[Any] = [PartitionSpec()] * replicated
        specs += [PartitionSpec(_AXIS)] * (len(arguments) - replicated)
        on_own = function
        if in_parts:
            cut = jax.tree.map(lambda x: _part(mesh, x.shape).spec, arguments[0])
            specs[0] = cut
            on_own = lambda first, *rest: function(OwnParts(first, cut), *rest)  # noqa: E731
        mapped = jax.shard_map(
            on_own,
            mesh=mesh,
            in_specs=tuple(specs),
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
