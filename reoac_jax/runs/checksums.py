"""Checksums of a folder's files: whether it is still what was written (DESIGN.md, section 11)."""

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from reoac_jax.system.errors import InputError
from reoac_jax.system.files import write_json
from reoac_jax.system.json_files import read_json_object

CHECKSUMS = "checksums.json"


def write_checksums(folder: Path, *, leave_out: Collection[str] = ()) -> None:
    """Writes `checksums.json` into `folder`: bytes and SHA-256 of every file below it.

    leave_out: names of files that may still change.
    """
    files = {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in leave_out
    }
    write_json(folder / CHECKSUMS, files)


def find_damage(folder: Path, *, contents: bool = True) -> str | None:
    """What is wrong with a folder that `write_checksums` was given, in words; None if nothing is.

    contents: read and hash the files; without it only their presence and sizes are checked.
    """
    if not (folder / CHECKSUMS).exists():
        return f"{CHECKSUMS} is missing"
    try:
        files = read_json_object(folder / CHECKSUMS, "what write_checksums wrote")
        wanted = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except (InputError, KeyError, TypeError):
        return f"{CHECKSUMS} cannot be read"
    for name, (size, digest) in wanted.items():
        file = folder / name
        try:
            found = os.stat(file).st_size
            if found != size:
                return f"{name} has {found} bytes, expected {size}"
            if contents and file_sha256(file) != digest:
                return f"{name} has changed since it was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
