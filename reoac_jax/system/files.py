"""Files and folders that are complete or absent: written under a temporary name, then renamed."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reoac_jax.system.errors import InputError


@contextlib.contextmanager
def replacing_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is renamed to `path`, else removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    os.chmod(name, 0o644)
    try:
        yield Path(name)
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


@contextlib.contextmanager
def creating_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it is renamed to `path`, else removed.

    Raises `InputError` if `path` is a file or a folder that already holds something.
    """
    path = Path(path)
    check_empty_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    temporary.chmod(0o755)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def looked_in(path: str | os.PathLike) -> str:
    """` in FOLDER`, for a message that a relative path is not there; else nothing."""
    if os.path.isabs(path) or os.path.exists(path):
        return ""
    return f" in {os.getcwd()}"


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Removes what the two functions above left in `folder` when their process was killed."""
    for path in Path(folder).glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_empty_folder(path: str | os.PathLike) -> None:
    """Raises `InputError` unless `path` is absent or an empty folder."""
    path = Path(path)
    if path.is_file():
        raise InputError(f"output {path} is a file; expected a new or empty folder")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(
            f"output folder {path} already holds something; expected a new or empty folder"
        )


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all. Raises `ValueError` on NaN."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
