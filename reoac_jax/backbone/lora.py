"""LoRA as data: a pytree of low-rank pairs beside the base parameters (DESIGN.md, section 4).

    {path: {"a": [in, r], "b": [r, out]}},   W + (alpha / r) a @ b      (Hu et al. 2021)

The base parameters stay an argument of their own: never donated, optimised or saved again.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from reoac_jax.devices import sharding
from reoac_jax.system.errors import InputError

Overlay = dict[str, dict[str, jax.Array]]


def target_paths(shapes: Mapping[str, Any], targets: Sequence[str]) -> tuple[str, ...]:
    """Paths such as "blocks_0/attn_qkv/kernel" of the matrices that get an overlay.

    Args:
      shapes: the base parameters, or anything with the same tree and a `.ndim`.
      targets: regular expressions, searched in the paths of kernels (by default those
        of `DenoiserModule.lora_targets`).

    Raises:
      InputError: a pattern is no regular expression or matches no kernel.
    """
    flat = flatten_dict(shapes, sep="/")
    kernels = [path for path, x in flat.items() if path.endswith("/kernel") and x.ndim == 2]
    chosen: set[str] = set()
    for pattern in targets:
        try:
            matched = [path for path in kernels if re.search(pattern, path)]
        except re.error as error:
            raise InputError(
                f"lora.targets holds {pattern!r}, which is no regular expression ({error}); "
                "expected one over parameter paths"
            ) from error
        if not matched:
            raise InputError(
                f"lora.targets holds {pattern!r}, which matches no kernel; expected a pattern over "
                f"paths such as {kernels[0]}"
            )
        chosen.update(matched)
    return tuple(path for path in kernels if path in chosen)


def init(key: jax.Array, params: Any, targets: Sequence[str], rank: int) -> Overlay:
    """A new overlay: `a` uniform in +-1/sqrt(in), `b` zero, so that it changes nothing yet.

    Raises `InputError` where a target is narrower than the rank, or as `target_paths` does.
    """
    flat = flatten_dict(params, sep="/")
    overlay = {}
    for index, path in enumerate(target_paths(params, targets)):
        inputs, outputs = flat[path].shape
        if rank > min(inputs, outputs):
            raise InputError(
                f"lora.rank is {rank} but {path} is {inputs} x {outputs}; expected at most "
                f"{min(inputs, outputs)}"
            )
        bound = inputs**-0.5
        path_key = jax.random.fold_in(key, index)
        overlay[path] = {
            "a": jax.random.uniform(path_key, (inputs, rank), jnp.float32, -bound, bound),
            "b": jnp.zeros((rank, outputs), jnp.float32),
        }
    return overlay


def merge(params: Any, overlay: Overlay, scale: float) -> Any:
    """The base with `W + scale * a @ b` in float32 at the overlay's paths; the rest is shared."""
    flat = dict(flatten_dict(params, sep="/"))
    for path, pair in overlay.items():
        change = jnp.matmul(pair["a"], pair["b"], precision=jax.lax.Precision.HIGHEST)
        flat[path] = flat[path] + scale * change
    return unflatten_dict(flat, sep="/")


def merge_in_place(
    params: Any, overlay: Overlay, scale: float, finish: Callable[[Any], Any]
) -> Any:
    """`finish` of what `merge` gives; the matrices by one program, which lie as the base's do.

    So no float32 copy of a matrix exists that `finish` rounds, and a device that holds a part of
    the base holds a part of the result. What has no overlay is shared with the base, or with what
    `finish` makes of it.

    Args:
      finish: of a tree of parameters, or of some of them, to the same tree; hashable.
    """
    flat = dict(flatten_dict(params, sep="/"))
    matrices = {path: flat.pop(path) for path in overlay}
    merged = merged_matrices(matrices, overlay, scale, finish, sharding.placement(matrices))
    return unflatten_dict(
        {**flatten_dict(finish(unflatten_dict(flat, sep="/")), sep="/"), **merged}, sep="/"
    )


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def merged_matrices(
    matrices: Mapping[str, jax.Array],
    overlay: Overlay,
    scale: float,
    finish: Callable[[Any], Any],
    placement: sharding.Placement,
) -> dict[str, jax.Array]:
    """By path, those that have an overlay, merged and finished, placed as `placement` says."""
    merged = finish(merge(unflatten_dict(matrices, sep="/"), overlay, scale))
    return sharding.keep_placed(dict(flatten_dict(merged, sep="/")), placement)


def collection(overlay: Overlay, scale: float) -> dict[str, Any]:
    """The overlay as the Flax collection "lora" that the backbone's layers read; the scale is in b.

    With it the product is `x @ W + dropout(x) @ a @ (scale * b)`: no full-size gradient exists.
    """
    flat = {}
    for path, pair in overlay.items():
        layer = path.removesuffix("/kernel")
        flat[f"{layer}/a"], flat[f"{layer}/b"] = pair["a"], scale * pair["b"]
    return unflatten_dict(flat, sep="/")
