"""PyTorch checkpoints on disk: finding, reading (folder, Lightning `.ckpt`, hub id) and writing.

safetensors files are read without torch. Pickles are loaded with `weights_only=True` only: anything
else in a pickle is code, and code from a checkpoint is never run.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reoac_jax.backbone.architectures import architecture, architecture_of, infer_config
from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.layout import TensorFile
from reoac_jax.backbone.published import published_keys, weights
from reoac_jax.backbone.safetensors_writer import SHARD_BYTES, Lazy, write_sharded
from reoac_jax.backbone.tensor_files import (
    PICKLE,
    SAFETENSORS,
    JoinedTensors,
    RenamedTensors,
    SafetensorsFile,
    TorchTensors,
    load_pickle,
    read_shards,
    state_of,
    unwrapped_names,
    without_wrappers,
)
from reoac_jax.runs.checksums import file_sha256
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import creating_folder, looked_in, write_json, write_text
from reoac_jax.system.json_files import read_json_object

CONFIG = "config.json"
INDEX = ".index.json"  # behind the name of a sharded checkpoint's file
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_SUFFIXES = (".ckpt", ".safetensors", ".bin", ".pt", ".pth")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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
    def is_single_file(self) -> bool:
        """Given by itself, and not as the folder of a published model."""
        name = self.weights.name.removesuffix(INDEX)
        return name not in (SAFETENSORS, PICKLE)

    @property
    def sha256(self) -> str:
        """Of the file with the tensors; of a sharded checkpoint of its index."""
        return file_sha256(self.weights)

    def shards(self) -> dict[str, str]:
        """Name and sha256 of each file of a sharded checkpoint; else nothing."""
        if not self.weights.name.endswith(INDEX):
            return {}
        return {shard.name: file_sha256(shard) for shard in read_shards(self.weights)[1]}


class Checkpoint(NamedTuple):
    """An opened checkpoint; `check_layout` compares its two parts.

    config: the model's sizes. tensors: by published key; they hold the file's memory.
    notes: what the user should know about how it was read, one line each.
    """

    config: ModelConfig
    tensors: TensorFile
    notes: tuple[str, ...] = ()


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
            raise InputError(
                f"--revision {revision} is for hub ids; {source} is on this machine: "
                "expected the option left out"
            )
        return _describe(source, path, None)
    if not _HUB_ID.fullmatch(source) or path.suffix in _SUFFIXES:
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

    Keys that wrappers lengthened (`tensor_files.WRAPPERS`) are read as the model's own where that
    makes every key fit.

    Args:
        source: from `find_source`.
        ema: take a Lightning file's averaged weights.
        config_json: sizes of a single file; None looks beside it, then at the tensors' shapes.

    Raises:
        InputError: an option that does not fit, or a file that cannot be read.
    """
    where = str(source.weights)
    if not source.is_single_file:
        for option, given in (("--ema", ema), ("--config-json", config_json)):
            if given:
                raise InputError(
                    f"{option} is for a Lightning .ckpt, which {where} is not; expected it left out"
                )
    config_file = config_json or source.config
    config = None if config_file is None else read_config(config_file, source.tokenizer)
    loaded, tensors = _open_tensors(source)
    if config is not None and config.spec.n_blocks > len(tensors.shapes):
        # Asked before a module of so many blocks is built, which could take all memory.
        raise InputError(
            f"{config_file}: {config.spec.n_blocks} blocks, where {where} holds "
            f"{len(tensors.shapes)} tensors; expected the number of blocks in the file"
        )
    notes: list[str] = []
    if config is None:
        plain = {without_wrappers(key): shape for key, shape in tensors.shapes.items()}
        kind, config = infer_config(plain, where)
        notes.append(
            f"no {CONFIG} beside {source.weights.name}: sizes are read from the tensors' shapes"
            + (f", {kind.assumed} are assumed" if kind.assumed else "")
            + " (or give --config-json)"
        )
    kind = architecture(config)
    tensors = _without_training_state(tensors, kind.training_prefixes, notes)
    tensors = _under_own_keys(config, tensors, notes)
    notes += [
        f"key {key} is missing: it is computed"
        for key in kind.buffers(config)
        if key not in tensors.shapes
    ]
    if ema:
        averaged = TorchTensors(_averaged_weights(loaded, config, source.weights), source.weights)
        kept = {key: key for key in tensors.shapes if key not in averaged.shapes}
        tensors = JoinedTensors([RenamedTensors(tensors, kept), averaged])
    return Checkpoint(config, tensors, tuple(notes))


def _open_tensors(source: Source) -> tuple[Any, TensorFile]:
    """What a pickle holds, None for other files; and the tensors."""
    file = source.weights
    if file.name.endswith(INDEX):
        return None, read_shards(file)[0]
    if file.suffix == ".safetensors":
        return None, SafetensorsFile(file)
    loaded = load_pickle(file)
    return loaded, TorchTensors(state_of(loaded, file), file)


def _without_training_state(
    tensors: TensorFile, prefixes: tuple[str, ...], notes: list[str]
) -> TensorFile:
    """The tensors without what training keeps beside the model, which is noted."""
    left_out = [key for key in tensors.shapes if without_wrappers(key).startswith(prefixes)]
    if not left_out:
        return tensors
    notes.append(f"left out, not of the backbone: {', '.join(left_out)}")
    return RenamedTensors(tensors, {k: k for k in tensors.shapes if k not in left_out})


def _under_own_keys(config: ModelConfig, tensors: TensorFile, notes: list[str]) -> TensorFile:
    """The tensors under the model's keys, if wrappers are all that differs; else as they are."""
    expected = published_keys(config)
    if set(tensors.shapes) <= expected:
        return tensors
    names = unwrapped_names(tensors.shapes, expected)
    if names is None:
        return tensors
    new, old = next((new, old) for new, old in names.items() if new != old)
    count = sum(new != old for new, old in names.items())
    notes.append(f"{count} keys are read without what wrapped the model: {old} as {new}")
    return RenamedTensors(tensors, names)


def read_config(path: Path, tokenizer: Sequence[Path] = ()) -> ModelConfig:
    """Reads a published `config.json`, or a converted folder's.

    tokenizer: the tokenizer's files beside it. Raises `InputError` naming the file and the field.
    """
    values = read_json_object(path, "the published model's fields")
    for name, value in values.items():
        try:  # every key is written again, those too that are not read
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise InputError(
                f"{path}: {name} is {value!r}; expected a value that JSON can hold, without NaN "
                "and infinity"
            ) from None
    return architecture_of(values, str(path)).read_config(values, str(path), tokenizer)


def write_published(
    path: Path,
    config: ModelConfig,
    tensors: Mapping[str, np.ndarray],
    tokenizer: Iterable[Path] = (),
    texts: Mapping[str, str] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> str:
    """Writes a folder in the published layout, whole or not at all.

    Args:
        path: new or empty folder.
        config: the model's sizes, for `config.json`.
        tensors: published key to array (`from_flax`); read one after another.
        tokenizer: files to copy beside the weights.
        texts: further files by name, for instance a model card.
        shard_bytes: above which the weights are cut into shards with an index.

    Returns:
        The sha256 of `model.safetensors`, or of the shards' index.

    Raises:
        InputError: `path` is a file or holds something. OSError: it cannot be written.
    """
    with creating_folder(path) as folder:
        files = write_sharded(folder, SAFETENSORS, tensors, shard_bytes)
        fields = architecture(config).published_config(config)
        if isinstance(tensors, Lazy):  # transformers 5 says "dtype"
            fields["dtype" if "dtype" in fields else "torch_dtype"] = tensors.dtype.name
        write_json(folder / CONFIG, fields)
        for extra in tokenizer:
            shutil.copyfile(extra, folder / extra.name)
        for name, text in (texts or {}).items():
            write_text(folder / name, text)
        return file_sha256(files[0] if len(files) == 1 else folder / f"{SAFETENSORS}{INDEX}")


def _describe(name: str, path: Path, revision: str | None) -> Source:
    if path.is_dir():
        folder = path
        names = [f"{name}{end}" for name in (SAFETENSORS, PICKLE) for end in ("", INDEX)]
        found = [folder / name for name in names if (folder / name).is_file()]
        if not found:
            raise InputError(
                f"folder {path} holds neither {SAFETENSORS} nor {PICKLE}, nor the {INDEX[1:]} of "
                "either; expected one"
            )
        weights_file = found[0]
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"{folder / CONFIG} is missing; expected it beside {weights_file.name}"
            )
    else:
        folder, weights_file = path.parent, path
        if path.name.removesuffix(INDEX) in (SAFETENSORS, PICKLE):
            raise InputError(f"source {path} is a file; give its folder, {folder}")
    config = folder / CONFIG if (folder / CONFIG).is_file() else None
    tokenizer = tuple(folder / file for file in TOKENIZER_FILES if (folder / file).is_file())
    return Source(name, weights_file, config, revision, tokenizer)


def _download(hub_id: str, revision: str | None) -> Path:
    import huggingface_hub

    def fetch(weights_name: str) -> Path:
        stem, _, suffix = weights_name.rpartition(".")
        shards = [f"{weights_name}{INDEX}", f"{stem}-*-of-*.{suffix}"]
        patterns = [weights_name, *shards, CONFIG, *TOKENIZER_FILES]
        return Path(
            huggingface_hub.snapshot_download(hub_id, revision=revision, allow_patterns=patterns)
        )

    at = f" at revision {revision}" if revision else ""
    try:
        folder = fetch(SAFETENSORS)
        names = (SAFETENSORS, SAFETENSORS + INDEX)
        return folder if any((folder / name).exists() for name in names) else fetch(PICKLE)
    except (
        huggingface_hub.errors.RepositoryNotFoundError,
        huggingface_hub.errors.RevisionNotFoundError,
        huggingface_hub.errors.HFValidationError,
    ):
        raise InputError(
            f"no folder {hub_id} here, and the hub has no model {hub_id}{at}; expected "
            "a folder, a file or a model that is there"
        ) from None
    except OSError as error:  # every connection error of the hub's client is one
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"no folder {hub_id} here, and the hub cannot be reached for {hub_id}{at} ({reason}); "
            f"copy {SAFETENSORS} and {CONFIG} into a folder and give --source FOLDER, "
            "or a Lightning file with --source FILE.ckpt"
        ) from None


def _averaged_weights(checkpoint: Any, config: ModelConfig, path: Path) -> dict[str, Any]:
    """`ema.shadow_params` under the published keys; the list has no names, only an order."""
    ema = checkpoint.get("ema") if isinstance(checkpoint, Mapping) else None
    if not isinstance(ema, Mapping) or not isinstance(ema.get("shadow_params"), (list, tuple)):
        raise InputError(f"{path} has no ema.shadow_params; expected them with --ema")
    shadow, order = ema["shadow_params"], weights(config)
    if len(shadow) != len(order):
        raise InputError(
            f"{path}: ema.shadow_params holds {len(shadow)} tensors, expected {len(order)}"
        )
    named = {f"ema.shadow_params[{i}]": value for i, value in enumerate(shadow)}
    for (name, value), weight in zip(state_of(named, path).items(), order, strict=True):
        if tuple(value.shape) != weight.shape:
            raise InputError(
                f"{path}: {name} has shape {list(value.shape)}; "
                f"expected {list(weight.shape)} ({weight.key})"
            )
    return {weight.key: value for weight, value in zip(order, shadow, strict=True)}
