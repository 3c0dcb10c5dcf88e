"""A model's parameters in the published PyTorch layout and in ours: checked, and moved both ways.

The parameter tree is what the Flax module initialises (`jax.eval_shape`); an `Architecture` names
the published tensor of each of its arrays.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from reoac_jax.backbone.architectures import architecture, build
from reoac_jax.backbone.interface import ModelConfig, Params
from reoac_jax.backbone.layout import TensorFile
from reoac_jax.backbone.safetensors_writer import Lazy
from reoac_jax.system.errors import InputError

# Relative spacing of the formats a checkpoint may be stored in; every other format is refused.
STORED_DTYPES = {
    "float64": 2.0**-23,  # read as float32
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}


class PublishedWeight(NamedTuple):
    """One parameter.

    key: its name in the published state dict. path: its place in our tree, joined by "/".
    shape: its published shape. flax_shape: ours.
    """

    key: str
    path: str
    shape: tuple[int, ...]
    flax_shape: tuple[int, ...]

    @property
    def kind(self) -> str:
        """What of its layer the parameter is: kernel, bias, scale, embedding."""
        return self.path.rpartition("/")[2]


Progress = Callable[[list[PublishedWeight]], Iterable[PublishedWeight]]


@functools.lru_cache(maxsize=8)
def parameter_shapes(config: ModelConfig) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Shapes and float32 of every parameter, by its path joined with "/"."""
    return flatten_dict(build(config).parameter_shapes(), sep="/")


@functools.lru_cache(maxsize=8)
def weights(config: ModelConfig) -> tuple[PublishedWeight, ...]:
    """Every parameter, in the published model's registration order (the order of an EMA's list)."""
    shapes = parameter_shapes(config)
    found = []
    for weight in architecture(config).weights(config):
        shape = tuple(shapes[weight.path].shape)
        published = shape[::-1] if weight.is_transposed else shape
        found.append(PublishedWeight(weight.key, weight.path, published, shape))
    if sorted(weight.path for weight in found) != sorted(shapes):
        raise ValueError(f"{config.architecture}: weights() must name each parameter once")
    return tuple(found)


def parameter_count(config: ModelConfig) -> int:
    """Number of trainable parameters (169 627 218 at MDLM's published size)."""
    return sum(int(np.prod(leaf.shape)) for leaf in parameter_shapes(config).values())


def published_keys(config: ModelConfig) -> frozenset[str]:
    """The keys that a checkpoint of these sizes may hold."""
    kind = architecture(config)
    others = (*kind.buffers(config), *kind.repeated(config))
    return frozenset({weight.key for weight in weights(config)}.union(others))


def check_layout(config: ModelConfig, tensors: TensorFile, where: str) -> None:
    """Checks every key, shape and format, and the buffers' values, before any weight is read.

    Raises:
        InputError: naming the first key that is unknown, missing, or of the wrong shape or format.
    """
    kind = architecture(config)
    buffers, repeated = kind.buffers(config), kind.repeated(config)
    expected = {weight.key: weight.shape for weight in weights(config)}
    optional = {key: expected[of] for key, of in repeated.items()}
    optional |= {key: buffer.value.shape for key, buffer in buffers.items()}
    for key in tensors.shapes:
        if key not in expected and key not in optional:
            raise InputError(
                f"{where}: unknown key {key}; expected only the {len(expected)} keys of "
                f"{kind.title}, such as {next(iter(expected))} (rename them in the file, or leave "
                "out what is not the model's)"
            )
    for key, shape in (expected | optional).items():
        if key not in tensors.shapes:
            if key in optional:
                continue
            raise InputError(f"{where}: key {key} is missing; expected shape {list(shape)}")
        if tuple(tensors.shapes[key]) != shape:
            raise InputError(
                f"{tensors.place(key)} has shape {list(tensors.shapes[key])}; "
                f"expected {list(shape)} for this model's sizes"
            )
        if tensors.dtypes[key] not in STORED_DTYPES:
            raise InputError(
                f"{tensors.place(key)} is stored as {tensors.dtypes[key]}; "
                f"expected one of {', '.join(STORED_DTYPES)}"
            )
    for key, buffer in buffers.items():
        if key not in tensors.shapes:
            continue
        spacing = STORED_DTYPES[tensors.dtypes[key]]
        if not np.allclose(tensors.read(key), buffer.value, rtol=8 * spacing, atol=0):
            raise InputError(f"{tensors.place(key)} does not hold {buffer.meaning}")
    for key, of in repeated.items():
        if key in tensors.shapes and not np.array_equal(tensors.read(key), tensors.read(of)):
            raise InputError(f"{tensors.place(key)} differs from {of}; expected them tied")


def to_flax(
    config: ModelConfig, tensors: TensorFile, dtype: np.dtype, progress: Progress = iter
) -> Params:
    """Reads a checked checkpoint into our tree, one tensor at a time.

    Args:
        config: the model's sizes; `check_layout` must have passed with it.
        tensors: the checkpoint.
        dtype: format of the result.
        progress: wraps the list of weights, for a progress bar.

    Returns:
        Nested dicts of NumPy arrays, kernels as [in, out].

    Raises:
        InputError: naming the file and a tensor of it that holds NaN or infinity, or numbers that
            `dtype` cannot.
    """
    params: dict[str, np.ndarray] = {}
    for weight in progress(list(weights(config))):
        # A copy always: a view of a mapped file would keep the whole file in memory.
        value = in_format(tensors.read(weight.key), dtype, tensors.place(weight.key))
        params[weight.path] = np.array(_turned(weight, value), order="C")
    return unflatten_dict(params, sep="/")


class PublishedTensors(Lazy):
    """A parameter tree in the published layout; each tensor is turned when it is asked for.

    config: the model's sizes. params: our tree, as `to_flax` gives it. buffers: those that the
    checkpoint came with; others are computed. dtype: of every tensor.

    Raises:
        InputError: a parameter is missing or has the wrong shape.
    """

    def __init__(
        self,
        config: ModelConfig,
        params: Params,
        buffers: Mapping[str, np.ndarray] | None = None,
        dtype: np.dtype | type = np.float32,
    ):
        self.dtype = np.dtype(dtype)
        self._flat = flatten_dict(params, sep="/")
        self._weights = {weight.key: weight for weight in weights(config)}
        computed = architecture(config).buffers(config)
        self._buffers = {
            key: (buffers or {}).get(key, buffer.value) for key, buffer in computed.items()
        }
        for weight in self._weights.values():
            if weight.path not in self._flat:
                raise InputError(f"parameter {weight.path} is missing from the backbone")
            shape = tuple(self._flat[weight.path].shape)
            if shape != weight.flax_shape:
                raise InputError(
                    f"parameter {weight.path} has shape {list(shape)}; "
                    f"expected {list(weight.flax_shape)}"
                )

    def __iter__(self) -> Iterator[str]:
        return iter((*self._weights, *self._buffers))

    def __len__(self) -> int:
        return len(self._weights) + len(self._buffers)

    def shape(self, key: str) -> tuple[int, ...]:
        weight = self._weights.get(key)
        return tuple(self._buffers[key].shape) if weight is None else weight.shape

    def __getitem__(self, key: str) -> np.ndarray:
        """The tensor, C-contiguous. Raises `InputError` where `dtype` cannot hold it."""
        if key in self._buffers:
            return np.asarray(self._buffers[key], dtype=self.dtype)
        weight = self._weights[key]
        value = np.asarray(self._flat[weight.path])
        turned = in_format(_turned(weight, value), self.dtype, f"key {key}")
        return np.ascontiguousarray(turned)


def from_flax(
    config: ModelConfig,
    params: Params,
    buffers: Mapping[str, np.ndarray] | None = None,
    dtype: np.dtype | type = np.float32,
) -> PublishedTensors:
    """Our tree in the published layout, as `PublishedTensors`."""
    return PublishedTensors(config, params, buffers, dtype)


def in_format(value: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """The finite array in another format. Raises `InputError` where a number is beyond its range.

    Also where `value` holds NaN or infinity. name: the array, as a message begins.
    """
    if not np.isfinite(value).all():
        raise InputError(f"{name} holds NaN or infinity; expected finite weights")
    with np.errstate(over="ignore"):  # what becomes infinite is found below
        converted = value.astype(dtype, copy=False)
    if value.dtype != dtype and not np.isfinite(converted).all():
        raise InputError(f"{name} holds numbers beyond {dtype.name}; expected another --dtype")
    return converted


def _turned(weight: PublishedWeight, value: np.ndarray) -> np.ndarray:
    """The array in the other layout, either way; a view."""
    return value.T if weight.kind == "kernel" else value
