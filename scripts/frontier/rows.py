"""The study's rows: one policy with fixed parameters on one split, kept as soon as it is known."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frontier.budgets import Point
from reoac_jax.system.errors import InputError

Row = dict[str, Any]
# A row is one measurement; where all of these agree it is the same one and is not made again.
KEY = ("subject", "seed", "family", "policy", "split", "problems", "config_hash", "backbone_hash")


class Rows:
    """The rows of a .jsonl file that one study made.

    A second call goes on where the first one stopped; rows of another configuration are neither
    read nor mixed in.

    Attributes:
      all: the rows of this study.
    """

    def __init__(self, path: Path, study_hash: str):
        """study_hash: of the configuration that the study was called with."""
        self._path, self._study_hash = path, study_hash
        self.all: list[Row] = []
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            self.all = [row for row in map(json.loads, lines) if row["study_hash"] == study_hash]

    def measured(self, key: Mapping[str, Any], measure: Callable[[], dict[str, Any]]) -> Row:
        """The row of that key, measured now unless it is there."""
        assert set(key) == set(KEY), sorted(set(key) ^ set(KEY))
        for row in self.all:
            if all(row[name] == key[name] for name in KEY):
                return row
        row = {"study_hash": self._study_hash, **key} | measure()
        self.all.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(
            f"{row['split']:>4} {row['subject']:>12} {row['seed']} {row['accuracy']:6.1%} in "
            f"{row['passes']:5.2f} passes  {row['policy']}",
            flush=True,
        )
        return row


def rows_of(path: Path, option: str, problems: int) -> list[Row]:
    """The rows of another study's .jsonl on so many test problems. Raises `InputError`.

    option: of the command line, which named the file.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [row for row in rows if row["split"] == "test" and row["problems"] == problems]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{option} {path}: {error}; expected the .jsonl of a study") from None


def pack(correct: np.ndarray) -> str:
    """bool `[N]` as hex digits, so that rows can be compared problem by problem."""
    return np.packbits(correct).tobytes().hex()


def unpack(row: Row) -> np.ndarray:
    """float `[N]`: which problems a row's policy solved."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(row["correct"]), np.uint8))
    return bits[: row["problems"]].astype(np.float64)


def point(row: Row) -> Point:
    """A row as a point of a frontier."""
    return Point(row["policy"], row["passes"], unpack(row))
