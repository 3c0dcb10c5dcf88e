"""A mistake, and the ways to damage what it is made with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

LONG = "x" * 300  # more than a file name may have
RESUMED = "run/config.json"

TINY = (
    "--config tiny.py --config.backbone.path=backbone --config.output_dir=runs"
    " --config.task.train_size=50 --config.task.test_size=20"
)
GSM8K = (
    "--config gsm8k.py --config.backbone.path=backbone --config.output_dir=runs"
    " --config.backbone.tokenizer_source=auto --config.rollout.gen_len=16"
    " --config.rollout.max_prompt_len=16 --config.task.train_file=train.jsonl"
    " --config.task.test_file=train.jsonl"
)
SFT = f"{TINY} --config.sft.batch_size=4 --config.sft.mode=lora"
EVALUATE = f"{TINY} --output out.json"
HUB = "--config.backbone.tokenizer_source=mdlm --config.backbone.tokenizer_path=someone/something"


class Case(NamedTuple):
    """A mistake.

    command: the command and its arguments, split at white space ("''" is an empty one).
    named: what the line must name, separated by "|".
    damage: is called with the case's folder. piped: standard input.
    """

    command: str
    named: str
    damage: Callable[[Path], object] | None = None
    piped: bytes | None = None


# ---- Damage


def write(name: str, content: str | bytes | object) -> Callable[[Path], object]:
    """Puts a text, bytes or JSON value in the place of a file."""

    def damage(folder: Path) -> None:
        data = content if isinstance(content, str | bytes) else json.dumps(content)
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())

    return damage


def edit(name: str, **changes: object) -> Callable[[Path], object]:
    """Changes values of a JSON file, `a__b` for b in a; None takes one away."""

    def damage(folder: Path) -> None:
        values = json.loads((folder / name).read_text())
        for key, value in changes.items():
            *sections, last = key.split("__")
            section = values
            for part in sections:
                section = section[part]
            section[last] = value
            if value is None:
                del section[last]
        (folder / name).write_text(json.dumps(values))

    return damage


def remove(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def folder_for(name: str) -> Callable[[Path], object]:
    """Puts a folder in the place of a file."""

    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def cut(pattern: str) -> Callable[[Path], object]:
    """Cuts the first file that matches in the middle."""

    def damage(folder: Path) -> None:
        file = min(path for path in folder.glob(pattern) if path.is_file())
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])

    return damage
