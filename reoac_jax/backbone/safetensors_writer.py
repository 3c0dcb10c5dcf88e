"""safetensors files written one tensor at a time, in one file or in shards with an index.

The format (https://huggingface.co/docs/safetensors): the header's length in 8 bytes, the header as
JSON padded to a multiple of 8, then the tensors one behind the other. `safetensors`' own `save`
takes all of them at once, which at 16 GB is too much for most hosts.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from reoac_jax.system.files import write_json

SHARD_BYTES = 5_000_000_000  # above which `save_pretrained` cuts a model in shards, too
_NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


class Lazy(Mapping[str, np.ndarray]):
    """Tensors by key whose sizes are known and whose values are made when asked for.

    Subclasses give `shape(key)` and `dtype`, the format of every tensor.
    """

    dtype: np.dtype

    def shape(self, key: str) -> tuple[int, ...]:
        raise NotImplementedError


class _Entry(NamedTuple):
    key: str
    dtype: str
    shape: tuple[int, ...]
    size: int  # bytes


def write_tensors(file: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a `.safetensors` file that PyTorch's libraries read. Raises `OSError`."""
    _write(file, tensors, _entries(tensors))


def write_sharded(
    folder: Path, name: str, tensors: Mapping[str, np.ndarray], limit: int = SHARD_BYTES
) -> list[Path]:
    """Writes `name` (such as "model.safetensors"), or shards and their index where it is too large.

    Args:
      folder: existing. tensors: by published key; in shards they keep this order.
      limit: bytes of tensors in a file; a larger tensor has a shard of its own.

    Returns:
      The files with tensors, in order. Raises `OSError`.
    """
    entries = _entries(tensors)
    shards = list(_shards(entries, limit))
    if len(shards) <= 1:
        _write(folder / name, tensors, entries)
        return [folder / name]
    stem, _, suffix = name.rpartition(".")
    files: list[Path] = []
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = folder / f"{stem}-{number:05d}-of-{len(shards):05d}.{suffix}"
        _write(file, tensors, shard)
        files.append(file)
        places |= {entry.key: file.name for entry in shard}
    total = sum(entry.size for entry in entries)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    write_json(folder / f"{name}.index.json", index)
    return files


def _entries(tensors: Mapping[str, np.ndarray]) -> list[_Entry]:
    found = []
    for key in tensors:
        if isinstance(tensors, Lazy):
            dtype, shape = tensors.dtype, tensors.shape(key)
        else:
            dtype, shape = tensors[key].dtype, tensors[key].shape
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        found.append(_Entry(key, dtype.name, tuple(shape), size))
    return found


def _shards(entries: Sequence[_Entry], limit: int) -> Iterator[list[_Entry]]:
    shard: list[_Entry] = []
    for entry in entries:
        if shard and sum(one.size for one in shard) + entry.size > limit:
            yield shard
            shard = []
        shard.append(entry)
    if shard:
        yield shard


def _write(file: Path, tensors: Mapping[str, np.ndarray], entries: Sequence[_Entry]) -> None:
    entries = sorted(entries)  # as the library does, so that the same tensors are the same bytes
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for entry in entries:
        header[entry.key] = {
            "dtype": _NAMES[entry.dtype],
            "shape": entry.shape,
            "data_offsets": [start, start + entry.size],
        }
        start += entry.size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little"))
        out.write(text)
        for entry in entries:
            value = np.ascontiguousarray(tensors[entry.key])
            if value.nbytes != entry.size or value.dtype.name != entry.dtype:
                raise ValueError(f"{entry.key}: {value.dtype.name} {value.shape}, unlike announced")
            out.write(value.reshape(-1).view(np.uint8).data)
