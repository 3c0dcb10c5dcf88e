"""Tensors by name, from the files PyTorch's world keeps them in: safetensors, shards, pickles."""

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from reoac_jax.backbone.layout import TensorFile
from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object
from reoac_jax.system.shell import quoted

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
# What wrappers and training loops put in front of a name, or in its middle: torch.compile,
# DataParallel and its kin, Lightning modules, Fabric.
WRAPPERS = frozenset({"_orig_mod", "module", "model", "_forward_module"})
# Under which key a checkpoint keeps the state dict, in the order they are looked for.
STATE_KEYS = ("state_dict", "model_state_dict", "model", "module")
_WHOLE = "a whole one (fetch or save it again)"
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_SHARD_NAME = re.compile(r"[\w.-]+")
# Keeps the tensors of a checkpoint, whatever it keeps them in, and nothing else of it.
_TENSORS_ALONE = """\
import sys, torch; c = torch.load(sys.argv[1], map_location="cpu", weights_only=False); \
torch.save({k: c[k] for k in (%s, "ema") if k in c} or dict(c), sys.argv[2])"""


class SafetensorsFile:
    """A `.safetensors` file as a `TensorFile`."""

    def __init__(self, path: Path):
        self._path = path
        try:
            with safetensors.safe_open(path, "numpy") as file:
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
                self.shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
                names = {key: part.get_dtype() for key, part in slices.items()}
        except safetensors.SafetensorError as error:
            raise InputError(
                f"{path} is truncated or no safetensors file ({error}); expected {_WHOLE}"
            ) from None
        self.dtypes = {key: _DTYPES.get(name, name) for key, name in names.items()}

    def read(self, key: str) -> np.ndarray:
        # Opened anew for each tensor: the library maps the file, and pages that were read count as
        # resident memory until it is closed.
        with safetensors.safe_open(self._path, "numpy") as file:
            return _float32(file.get_tensor(key))

    def place(self, key: str) -> str:
        return f"{self._path}: key {key}"


class TorchTensors:
    """A PyTorch state dict as a `TensorFile`; its tensors stay on disk where the format allows.

    path: the file that it is of.
    """

    def __init__(self, state: Mapping[str, Any], path: Path):
        self._state, self._path = state, path
        self.shapes = {key: tuple(value.shape) for key, value in state.items()}
        self.dtypes = {key: str(value.dtype).removeprefix("torch.") for key, value in state.items()}

    def read(self, key: str) -> np.ndarray:
        return self._state[key].detach().float().numpy()

    def place(self, key: str) -> str:
        return f"{self._path}: key {key}"


class JoinedTensors:
    """Several `TensorFile`s as one; no key is in two of them."""

    def __init__(self, parts: Iterable[TensorFile]):
        self._part = {key: part for part in parts for key in part.shapes}
        self.shapes = {key: part.shapes[key] for key, part in self._part.items()}
        self.dtypes = {key: part.dtypes[key] for key, part in self._part.items()}

    def read(self, key: str) -> np.ndarray:
        return self._part[key].read(key)

    def place(self, key: str) -> str:
        return self._part[key].place(key)


class RenamedTensors:
    """Some of a `TensorFile`'s tensors under other keys. names: new key to the file's."""

    def __init__(self, tensors: TensorFile, names: Mapping[str, str]):
        self._tensors, self._names = tensors, names
        self.shapes = {new: tensors.shapes[old] for new, old in names.items()}
        self.dtypes = {new: tensors.dtypes[old] for new, old in names.items()}

    def read(self, key: str) -> np.ndarray:
        return self._tensors.read(self._names[key])

    def place(self, key: str) -> str:
        return self._tensors.place(self._names[key])


def _float32(value: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # an infinity is refused where the weights are looked at
        return value.astype(np.float32, copy=False)


def without_wrappers(key: str) -> str:
    """A key without what `WRAPPERS` put into it, in front or in the middle."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def unwrapped_names(keys: Iterable[str], expected: Iterable[str]) -> dict[str, str] | None:
    """Expected key to the file's, where leaving wrappers out makes every key of the file fit.

    None where a key does not fit even so, or two would be the same. An expected key may itself hold
    a wrapper's word, as LLaDA's `model.transformer` does.
    """
    plain = {without_wrappers(key): key for key in expected}
    names: dict[str, str] = {}
    for key in keys:
        fits = plain.get(without_wrappers(key))
        if fits is None or fits in names:
            return None
        names[fits] = key
    return names


def read_shards(index: Path) -> tuple[TensorFile, tuple[Path, ...]]:
    """The tensors of a sharded checkpoint, and its files. Raises `InputError`.

    index: `model.safetensors.index.json` or `pytorch_model.bin.index.json`.
    """
    values = read_json_object(index, "the index that `save_pretrained` writes").get("weight_map")
    if not isinstance(values, dict) or not values:
        raise InputError(f"{index} has no weight_map; expected the file of each tensor in it")
    for key, name in values.items():
        if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
            raise InputError(f"{index}: {key} lies in {name!r}; expected a file's name beside it")
    shards = tuple(index.parent / name for name in sorted(set(values.values())))
    absent = [shard.name for shard in shards if not shard.is_file()]
    if absent:
        raise InputError(
            f"{index} names {len(shards)} files, of which {len(absent)} are missing, such as "
            f"{absent[0]}; expected all of them beside it (fetch the rest)"
        )
    is_pickle = index.name.startswith(PICKLE)
    parts = {
        shard.name: TorchTensors(state_of(load_pickle(shard), shard), shard)
        if is_pickle
        else SafetensorsFile(shard)
        for shard in shards
    }
    for key, name in values.items():
        if key not in parts[name].shapes:
            raise InputError(
                f"{index.parent / name} has no key {key}, which {index.name} says it has; expected "
                "both of one save (fetch them again)"
            )
    for name, part in parts.items():
        for key in part.shapes:
            if values.get(key) != name:
                raise InputError(
                    f"{index.parent / name} has a key {key}, of which {index.name} says nothing; "
                    "expected both of one save (fetch them again)"
                )
    return JoinedTensors(parts.values()), shards


def require_torch(purpose: str) -> ModuleType:
    """The torch module. Raises `InputError` naming the extra that installs it."""
    try:
        import torch
    except ImportError:
        raise InputError(
            f'{purpose} needs PyTorch, which is not installed; pip install "reoac-jax[convert]"'
        ) from None
    return torch


def load_pickle(path: Path) -> Any:
    """What a PyTorch file holds, loaded without running code of its own. Raises `InputError`."""
    torch = require_torch(f"reading {path}")
    is_zip = zipfile.is_zipfile(path)
    if not is_zip:
        with path.open("rb") as file:
            if file.read(2) != b"\x80\x02":  # how PyTorch's format before 1.6 starts
                raise InputError(
                    f"{path} is truncated, or no PyTorch checkpoint; expected {_WHOLE}"
                )
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zip else []
        if not unsafe:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged pickle can fail in any way at all
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} is damaged, no PyTorch checkpoint, or needs more than weights_only=True "
            f"allows ({reason[:200]}); expected {_WHOLE}, with nothing but tensors in it"
        ) from None
    alone = path.with_name(f"{path.stem}-tensors{path.suffix}")
    code = _TENSORS_ALONE % ", ".join(f'"{key}"' for key in STATE_KEYS)
    command = " ".join(quoted(word) for word in ("python", "-c", code, str(path), str(alone)))
    raise InputError(
        f"{path} holds more than tensors ({', '.join(sorted(unsafe)[:3])}) and is refused, since "
        f"loading it could run code; if you trust it, write its tensors alone with: {command}"
    )


def state_of(loaded: Any, path: Path) -> dict[str, Any]:
    """The state dict in what a file holds: the whole of it, or what stands under `STATE_KEYS`.

    Raises `InputError` where there is none, or something else than tensors in it.
    """
    import torch

    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(f"{path} holds no state dict; expected tensors by key")
    for name in STATE_KEYS:
        if isinstance(loaded.get(name), Mapping) and loaded[name]:
            loaded = loaded[name]
            break
    for key, tensor in loaded.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise InputError(
                f"{path}: key {key} holds {type(tensor).__name__}; expected tensors by key, there "
                f"or under {' or '.join(STATE_KEYS)}"
            )
    return dict(loaded)
