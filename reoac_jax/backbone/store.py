"""A backbone on disk: `config.json`, `source.json`, `params/` (Orbax) and the tokenizer's files."""

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax.traverse_util import unflatten_dict
from jax.sharding import Mesh

import reoac_jax
from reoac_jax.backbone.architectures import architecture, build
from reoac_jax.backbone.attention import choose_implementation
from reoac_jax.backbone.interface import ModelConfig, Params
from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.backbone.published import parameter_count, parameter_shapes
from reoac_jax.backbone.pytorch_files import (
    CONFIG,
    TOKENIZER_FILES,
    read_config,
)
from reoac_jax.backbone.tensor_files import PICKLE, SAFETENSORS
from reoac_jax.devices import sharding
from reoac_jax.runs.pytrees import gb_in_flight, restore_pytree
from reoac_jax.runs.quiet_orbax import quiet_orbax
from reoac_jax.system import formats
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import creating_folder, looked_in, write_json
from reoac_jax.system.json_files import read_json_object
from reoac_jax.system.shell import shell_command

PARAMS, SOURCE, TOKENIZER = "params", "source.json", "tokenizer"
STORE_DTYPES = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float16": np.dtype(np.float16),
}
STORED = "stored"  # of a dtype: as it lies on the disk
COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
_VERSIONS_OF = ("jax", "flax", "orbax-checkpoint", "safetensors", "numpy")
_ORIGIN = ("source", "weights", "sha256", "revision", "ema", "task", "steps", "mode", "base")
# Larger arrays lie in pieces of at most this size, so that a host that holds a part of one reads
# little more than that.
PIECE_BYTES = 2**26
# At most this much is in flight between memory and disk beside the parameters themselves.
_CONCURRENT_GB = 1


def save_backbone(
    path: str | os.PathLike,
    config: ModelConfig,
    params: Params,
    *,
    source: Mapping[str, Any],
    tokenizer: Iterable[Path] = (),
) -> dict[str, Any]:
    """Writes a folder that `load_backbone` reads; it appears whole or not at all.

    Args:
        path: new or empty folder.
        config: the model's sizes.
        params: nested dicts of arrays, in one of `STORE_DTYPES`.
        source: where the weights come from (any JSON values); stored in `source.json`.
        tokenizer: tokenizer files to copy beside the weights.

    Returns:
        What `source.json` holds: `source`, and parameters, backbone_hash and versions.

    Raises:
        InputError: `path` is a file or holds something. OSError: it cannot be written.
    """
    with creating_folder(path) as folder:
        return write_backbone(folder, config, params, source=source, tokenizer=tokenizer)


def write_backbone(
    folder: Path,
    config: ModelConfig,
    params: Params,
    *,
    source: Mapping[str, Any],
    tokenizer: Iterable[Path] = (),
) -> dict[str, Any]:
    """As `save_backbone`, into an existing folder that the caller makes appear at once."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    free = shutil.disk_usage(folder).free
    if free < needed:
        # Asked beforehand: Orbax's own threads print tracebacks when a disk fills under them.
        raise OSError(f"{needed / 1e6:.0f} MB are needed, the disk has {free / 1e6:.0f} MB free")
    ocp = quiet_orbax()
    in_flight = gb_in_flight(params, _CONCURRENT_GB)
    with ocp.StandardCheckpointer(save_concurrent_gb=in_flight) as checkpointer:
        try:
            pieces = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=PIECE_BYTES), params)
            checkpointer.save(folder.absolute() / PARAMS, params, save_args=pieces)
            checkpointer.wait_until_finished()
        except ValueError as error:  # how TensorStore reports a failed write
            raise OSError(str(error)) from error
    for file in tokenizer:
        (folder / TOKENIZER).mkdir(exist_ok=True)
        shutil.copyfile(file, folder / TOKENIZER / file.name)
    record = {
        formats.KEY: formats.BACKBONE,
        **source,
        "parameters": parameter_count(config),
        "backbone_hash": backbone_hash(params),
        "versions": versions(),
    }
    write_json(folder / SOURCE, record)
    kind = {
        "model_type": config.architecture,
        "architectures": list(architecture(config).class_names[:1]),
    }
    write_json(folder / CONFIG, kind | config.to_json())
    return record


def load_backbone(
    path: str | os.PathLike,
    *,
    compute_dtype: Any = "auto",
    attention: str = "auto",
    param_dtype: str = "float32",
    mesh: Mesh | None = None,
) -> tuple[DenoiserModule, Params]:
    """The model and its parameters, from a folder written by `save_backbone`.

    Args:
        path: the folder.
        compute_dtype: operand format of the matrix products: "auto" (bfloat16 on GPU, float32
            elsewhere), "float32", "bfloat16" or a JAX dtype.
        attention: "auto", "xla" or "cudnn" (see `choose_implementation`).
        param_dtype, mesh: see `read_backbone`.

    Returns:
        `(model, params)` for `model.apply({"params": params}, tokens, lengths, sigma)`.

    Raises:
        InputError: the folder is absent, damaged or of another kind, or an option is unknown.
    """
    config, params = read_backbone(path, param_dtype, mesh)
    return build_here(config, compute_dtype=compute_dtype, attention=attention), params


def build_here(
    config: ModelConfig, *, compute_dtype: Any = "auto", attention: str = "auto"
) -> DenoiserModule:
    """The model of these sizes for the device at hand; arguments and errors as `load_backbone`."""
    if isinstance(compute_dtype, str):
        if compute_dtype == "auto":
            compute_dtype = "bfloat16" if jax.default_backend() == "gpu" else "float32"
        if compute_dtype not in COMPUTE_DTYPES:
            raise InputError(
                f"compute_dtype is {compute_dtype!r}; expected auto, {', '.join(COMPUTE_DTYPES)}"
            )
        compute_dtype = COMPUTE_DTYPES[compute_dtype]
    try:
        implementation = choose_implementation(attention, compute_dtype, config.head_dim)
    except ValueError as error:
        raise InputError(str(error)) from None
    return build(config, dtype=compute_dtype, attention=implementation)


def read_backbone(
    path: str | os.PathLike, param_dtype: str = "float32", mesh: Mesh | None = None
) -> tuple[ModelConfig, Params]:
    """Sizes and parameters, checked against the shapes of the sizes and the stored hash.

    Args:
        path: the folder.
        param_dtype: "float32", which is exact for every format, or "stored", the format in the
            folder: half the memory where that has 16 bits, for weights that are not trained.
        mesh: read in parts, each device's from the disk into it, as `sharding.split_parameters`
            places them; of several processes all must ask. None: whole, on the first device.

    Raises:
        InputError: naming the folder, file or parameter that is absent or damaged.
    """
    path = Path(path)
    _check_kind(path)
    config = read_sizes(path)
    record = read_source(path)
    stored = record.get("dtype", "float32") if param_dtype == STORED else "float32"
    if stored not in STORE_DTYPES:
        raise InputError(
            f"{path / SOURCE}: dtype is {stored!r}; expected one of {', '.join(STORE_DTYPES)}"
        )
    params = _restore(path / PARAMS, config, STORE_DTYPES[stored], mesh)
    found = backbone_hash(params)
    if found != record["backbone_hash"]:
        raise InputError(
            f"{path / PARAMS} is damaged: its weights' hash is {found[:12]}, "
            f"expected {record['backbone_hash'][:12]} from {SOURCE}"
        )
    return config, params


def read_sizes(path: str | os.PathLike) -> ModelConfig:
    """The sizes in a backbone's folder. Raises `InputError` naming the file and the field."""
    return read_config(Path(path) / CONFIG, tokenizer_files(path))


def read_source(path: str | os.PathLike) -> dict[str, Any]:
    """What `source.json` of a backbone's folder holds. Raises `InputError`."""
    file = Path(path) / SOURCE
    record = read_json_object(file, "what the converter wrote")
    if not isinstance(record.get("backbone_hash"), str):
        raise InputError(f"{file} has no key backbone_hash; expected what the converter wrote")
    formats.check_format(record, f"backbone folder {path}", 1, formats.BACKBONE)
    return record


def derived_source(path: str | os.PathLike) -> dict[str, Any]:
    """What `source.json` of a backbone made from the one in `path` says of its origin.

    base: where that one came from, its own `base` included. Raises `InputError`.
    """
    before = read_source(path)
    origin = {name: before[name] for name in _ORIGIN if name in before}
    derived = {"base_hash": before["backbone_hash"], "base": origin}
    if buffers := stored_buffers(path):  # of the published file; not trained
        derived["buffers"] = {key: value.tolist() for key, value in buffers.items()}
    return derived


def stored_buffers(path: str | os.PathLike) -> Mapping[str, np.ndarray]:
    """The published file's tensors that are no parameters, by key; none where it had none."""
    return architecture(read_sizes(path)).stored_buffers(read_source(path))


def stored_hash(path: str | os.PathLike) -> str:
    """The hash under which a training checkpoint refers to this backbone; not recomputed."""
    return read_source(path)["backbone_hash"]


def tokenizer_files(path: str | os.PathLike) -> tuple[Path, ...]:
    """The tokenizer's files in a backbone's folder, possibly none."""
    folder = Path(path) / TOKENIZER
    return tuple(folder / name for name in TOKENIZER_FILES if (folder / name).is_file())


def versions() -> dict[str, str]:
    """Installed versions of this package and of those that its results depend on."""
    others = {name: importlib.metadata.version(name) for name in _VERSIONS_OF}
    return {"reoac-jax": reoac_jax.__version__} | others


def backbone_hash(params: Params) -> str:
    """sha256 over every parameter's path, shape and float32 bytes, in the order of the paths.

    Stored format and device play no part: bfloat16 weights hash as the float32 they load as.
    """
    digest = hashlib.sha256()
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    for name in sorted(named):
        # One after another: weights in parts are never whole on a host, but for one of them.
        value = np.ascontiguousarray(sharding.to_host(named[name]), dtype=np.float32)
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(value.data)
    return digest.hexdigest()


def is_backbone_folder(path: Path) -> bool:
    """Whether `path` looks like a folder that `save_backbone` wrote."""
    return (path / SOURCE).is_file() and (path / PARAMS).is_dir()


def _check_kind(path: Path) -> None:
    if not path.exists():
        raise InputError(
            f"backbone folder {path} does not exist{looked_in(path)}; "
            "expected one that python -m reoac_jax.convert.to_flax made"
        )
    if not path.is_dir() or any((path / name).is_file() for name in (SAFETENSORS, PICKLE)):
        convert = shell_command("convert.to_flax", "--source", path, "--output", "DIR")
        raise InputError(
            f"{path} is a PyTorch checkpoint or another file, expected a converted folder; convert "
            f"it first: {convert}"
        )
    for name in (CONFIG, SOURCE, PARAMS):
        if not (path / name).exists():
            raise InputError(f"{path} has no {name}; expected a folder that the converter wrote")


def _restore(path: Path, config: ModelConfig, dtype: np.dtype, mesh: Mesh | None) -> Params:
    def place(shape: tuple[int, ...]) -> jax.sharding.Sharding:
        if mesh is None:
            return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return sharding.parameter_sharding(mesh, shape)

    expected: Params = unflatten_dict(
        {
            path: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=place(leaf.shape))
            for path, leaf in parameter_shapes(config).items()
        },
        sep="/",
    )
    return restore_pytree(path, expected, fits=f"{CONFIG} beside it", concurrent_gb=_CONCURRENT_GB)
