"""PyTorch checkpoints on disk: finding, reading (folder, Lightning `.ckpt`, hub id) and writing.

safetensors files are read without torch. Pickles are loaded with `weights_only=True` only: anything
else in a pickle is code, and code from a checkpoint is never run.
"""

import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from reoac_jax.backbone.architectures import ARCHITECTURES, architecture, architecture_of
from reoac_jax.backbone.interface import ModelConfig, TensorFile
from reoac_jax.backbone.published import weights
from reoac_jax.runs.checksums import file_sha256
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import creating_folder, looked_in, write_json, write_text
from reoac_jax.system.json_files import read_json_object

SAFETENSORS, PICKLE, CONFIG = "model.safetensors", "pytorch_model.bin", "config.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
_LIGHTNING = ARCHITECTURES["mdlm"]  # whose training code writes .ckpt files
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SAFETENSORS_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class Source(NamedTuple):
    """A checkpoint on this machine.

    name: what the user gave. weights: the file with the tensors.
    config: the `config.json` beside it, None where there is none (a Lightning file may lack it).
    revision: the hub's commit; None for local files. tokenizer: the tokenizer's files beside it.
    """

    name: str
    weights: Path
    config: Path | None
    revision: str | None
    tokenizer: tuple[Path, ...]

    @property
    def is_lightning(self) -> bool:
        return self.weights.name not in (SAFETENSORS, PICKLE)


class Checkpoint(NamedTuple):
    """An opened checkpoint; `check_layout` compares its two parts.

    config: the model's sizes. tensors: by published key; they hold the file's memory.
    notes: what the user should know about how it was read, one line each.
    """

    config: ModelConfig
    tensors: TensorFile
    notes: tuple[str, ...] = ()


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
            raise InputError(f"{path} is truncated or no safetensors file: {error}") from None
        self.dtypes = {key: _SAFETENSORS_DTYPES.get(name, name) for key, name in names.items()}

    def read(self, key: str) -> np.ndarray:
        # Opened anew for each tensor: the library maps the file, and pages that were read count as
        # resident memory until it is closed.
        with safetensors.safe_open(self._path, "numpy") as file:
            return file.get_tensor(key).astype(np.float32, copy=False)


class TorchTensors:
    """A PyTorch state dict as a `TensorFile`; its tensors stay on disk where the format allows."""

    def __init__(self, state: Mapping[str, Any]):
        self._state = state
        self.shapes = {key: tuple(value.shape) for key, value in state.items()}
        self.dtypes = {key: str(value.dtype).removeprefix("torch.") for key, value in state.items()}

    def read(self, key: str) -> np.ndarray:
        return self._state[key].detach().float().numpy()


def require_torch(purpose: str) -> ModuleType:
    """The torch module. Raises `InputError` naming the extra that installs it."""
    try:
        import torch
    except ImportError:
        raise InputError(
            f'{purpose} needs PyTorch, which is not installed; pip install "reoac-jax[convert]"'
        ) from None
    return torch


def find_source(source: str, revision: str | None = None) -> Source:
    """Finds the checkpoint that `source` names, downloading it if it is a hub id.

    Args:
        source: a folder with `model.safetensors` or `pytorch_model.bin` and `config.json`, a
            Lightning `.ckpt` file, or a hub id `owner/name`. What exists locally comes first.
        revision: branch, tag or commit on the hub.

    Raises:
        InputError: nothing is there, a file is missing, or the hub cannot be reached.
    """
    path = Path(source)
    if path.exists():
        if revision is not None:
            raise InputError(f"--revision {revision} is for hub ids; {source} is on this machine")
        return _describe(source, path, None)
    if not _HUB_ID.fullmatch(source) or path.suffix in (".ckpt", ".safetensors", ".bin", ".pt"):
        raise InputError(
            f"source {source} does not exist{looked_in(path)}; expected a folder with "
            f"{SAFETENSORS} or {PICKLE} and {CONFIG}, a Lightning .ckpt, or a hub id owner/name"
        )
    folder = _download(source, revision)
    return _describe(source, folder, folder.name)


def open_source(
    source: Source, *, ema: bool = False, config_json: Path | None = None
) -> Checkpoint:
    """Opens a checkpoint; no weight of it is read yet.

    Args:
        source: from `find_source`.
        ema: take a Lightning file's averaged weights.
        config_json: sizes of a Lightning file; None looks beside it, then at the tensors' shapes.

    Raises:
        InputError: an option that does not fit, or a file that cannot be read.
    """
    if not source.is_lightning:
        for option, given in (("--ema", ema), ("--config-json", config_json)):
            if given:
                raise InputError(f"{option} is for a Lightning .ckpt; {source.weights} is none")
        assert source.config is not None  # without one only a Lightning file is a source
        config = read_config(source.config, source.tokenizer)
        if source.weights.name == SAFETENSORS:
            return Checkpoint(config, SafetensorsFile(source.weights))
        state = _state_dict(_load_pickle(source.weights), source.weights)
        return Checkpoint(config, TorchTensors(state))
    loaded = _load_pickle(source.weights)
    state, left_out = _lightning_state(loaded, source.weights)
    notes = [f"left out, not of the backbone: {', '.join(left_out)}"] if left_out else []
    config_file = config_json or source.config
    if config_file is None:
        notes.append(
            f"no {CONFIG} beside {source.weights.name}: sizes are read from the tensors' shapes, "
            f"{_LIGHTNING.assumed} are assumed (or give --config-json)"
        )
        config = _LIGHTNING.infer_config(TorchTensors(state).shapes, str(source.weights))
    else:
        config = read_config(config_file, source.tokenizer)
    if ema:
        state |= _averaged_weights(loaded, config, source.weights)
    return Checkpoint(config, TorchTensors(state), tuple(notes))


def read_config(path: Path, tokenizer: Sequence[Path] = ()) -> ModelConfig:
    """Reads a published `config.json`, or a converted folder's.

    tokenizer: the tokenizer's files beside it. Raises `InputError` naming the file and the field.
    """
    values = read_json_object(path, "the published model's fields")
    return architecture_of(values, str(path)).read_config(values, str(path), tokenizer)


def write_published(
    path: Path,
    config: ModelConfig,
    tensors: Mapping[str, np.ndarray],
    tokenizer: Iterable[Path] = (),
    texts: Mapping[str, str] | None = None,
) -> str:
    """Writes a folder in the published layout, whole or not at all.

    Args:
        path: new or empty folder.
        config: the model's sizes, for `config.json`.
        tensors: published key to C-contiguous float32 array (`from_flax`).
        tokenizer: files to copy beside the weights.
        texts: further files by name, for instance a model card.

    Returns:
        The sha256 of `model.safetensors`.

    Raises:
        InputError: `path` is a file or holds something. OSError: it cannot be written.
    """
    with creating_folder(path) as folder:
        file = folder / SAFETENSORS
        write_tensors(file, tensors)
        write_json(folder / CONFIG, architecture(config).published_config(config))
        for extra in tokenizer:
            shutil.copyfile(extra, folder / extra.name)
        for name, text in (texts or {}).items():
            write_text(folder / name, text)
        return file_sha256(file)


def write_tensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a `.safetensors` file that PyTorch's libraries read. Raises `OSError`."""
    try:
        safetensors.numpy.save_file(dict(tensors), file, metadata={"format": "pt"})
        file.chmod(0o644)  # the library makes it readable to its owner only
    except safetensors.SafetensorError as error:  # how the library reports a full disk
        raise OSError(str(error)) from error


def _describe(name: str, path: Path, revision: str | None) -> Source:
    if path.is_dir():
        folder = path
        found = [folder / file for file in (SAFETENSORS, PICKLE) if (folder / file).is_file()]
        if not found:
            raise InputError(
                f"folder {path} holds neither {SAFETENSORS} nor {PICKLE}; expected one"
            )
        weights_file = found[0]
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"{folder / CONFIG} is missing; expected it beside {weights_file.name}"
            )
    else:
        folder, weights_file = path.parent, path
        if path.name in (SAFETENSORS, PICKLE):
            raise InputError(f"source {path} is a file; give its folder, {folder}")
    config = folder / CONFIG if (folder / CONFIG).is_file() else None
    tokenizer = tuple(folder / file for file in TOKENIZER_FILES if (folder / file).is_file())
    return Source(name, weights_file, config, revision, tokenizer)


def _download(hub_id: str, revision: str | None) -> Path:
    import huggingface_hub

    def fetch(weights_name: str) -> Path:
        patterns = [weights_name, CONFIG, *TOKENIZER_FILES]
        return Path(
            huggingface_hub.snapshot_download(hub_id, revision=revision, allow_patterns=patterns)
        )

    at = f" at revision {revision}" if revision else ""
    try:
        folder = fetch(SAFETENSORS)
        return folder if (folder / SAFETENSORS).exists() else fetch(PICKLE)
    except (
        huggingface_hub.errors.RepositoryNotFoundError,
        huggingface_hub.errors.RevisionNotFoundError,
        huggingface_hub.errors.HFValidationError,
    ):
        raise InputError(
            f"no folder {hub_id} here, and the hub has no model {hub_id}{at}"
        ) from None
    except OSError as error:  # every connection error of the hub's client is one
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"no folder {hub_id} here, and the hub cannot be reached for {hub_id}{at} ({reason}); "
            f"copy {SAFETENSORS} and {CONFIG} into a folder and give --source FOLDER, "
            "or a Lightning file with --source FILE.ckpt"
        ) from None


def _load_pickle(path: Path) -> Any:
    torch = require_torch(f"reading {path}")
    is_zip = zipfile.is_zipfile(path)
    if not is_zip:
        with path.open("rb") as file:
            if file.read(2) != b"\x80\x02":  # how PyTorch's format before 1.6 starts
                raise InputError(f"{path} is truncated, or no PyTorch checkpoint")
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zip else []
        if not unsafe:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # a damaged pickle can fail in any way at all
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path} is damaged, no PyTorch checkpoint, or needs more than weights_only=True "
            f"allows: {reason[:200]}"
        ) from None
    raise InputError(
        f"{path} holds more than tensors ({', '.join(sorted(unsafe)[:3])}) and is refused, since "
        "loading it could run code; if you trust it, write its tensors alone with: python -c "
        f"\"import torch; c = torch.load('{path}', map_location='cpu', weights_only=False); "
        "torch.save({k: c[k] for k in ('state_dict', 'ema') if k in c} or dict(c), "
        f"'{path.stem}-tensors{path.suffix}')\""
    )


def _state_dict(value: Any, path: Path) -> dict[str, Any]:
    import torch

    if not isinstance(value, Mapping) or not value:
        raise InputError(f"{path} holds no state dict; expected tensors by key")
    for key, tensor in value.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise InputError(f"{path}: key {key} holds {type(tensor).__name__}; expected a tensor")
    return dict(value)


def _lightning_state(checkpoint: Any, path: Path) -> tuple[dict[str, Any], list[str]]:
    """The state dict without what training keeps beside the backbone, and the names of that."""
    state = checkpoint.get("state_dict") if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping):
        raise InputError(f"{path} has no key state_dict; expected a Lightning checkpoint")
    kept = {k: v for k, v in state.items() if not str(k).startswith(_LIGHTNING.training_prefixes)}
    return _state_dict(kept, path), [str(key) for key in state if key not in kept]


def _averaged_weights(checkpoint: Any, config: ModelConfig, path: Path) -> dict[str, Any]:
    """`ema.shadow_params` under the published keys; the list has no names, only an order."""
    ema = checkpoint.get("ema")
    if not isinstance(ema, Mapping) or not isinstance(ema.get("shadow_params"), (list, tuple)):
        raise InputError(f"{path} has no ema.shadow_params; expected them with --ema")
    shadow, order = ema["shadow_params"], weights(config)
    if len(shadow) != len(order):
        raise InputError(
            f"{path}: ema.shadow_params holds {len(shadow)} tensors, expected {len(order)}"
        )
    named = {f"ema.shadow_params[{i}]": value for i, value in enumerate(shadow)}
    for (name, value), weight in zip(_state_dict(named, path).items(), order, strict=True):
        if tuple(value.shape) != weight.shape:
            raise InputError(
                f"{path}: {name} has shape {list(value.shape)}; "
                f"expected {list(weight.shape)} ({weight.key})"
            )
    return {weight.key: value for weight, value in zip(order, shadow, strict=True)}
