"""The rooms' options: every key of a configuration stands once, beside what reads it.

A room that reads keys has a file `options.py` with

- `OPTIONS`: full key (`"rollout.max_steps"`) to `Option`, for the keys every configuration has;
- `options(values)`, where further keys depend on these: the same for the values chosen;
- `unused(values)`, where a choice leaves keys without effect that a file may hold all the same;
- `check(values)`, where keys, each legal alone, have to fit together; it raises `InputError`.

`values` is flat, `"rollout.max_steps"` to its value, and every value in it is legal. The files are
found by listing the rooms, and nothing here imports them by name: rooms stand above this one.
"""

import functools
import importlib.util
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from reoac_jax.config.schema import Option

_PACKAGE = Path(__file__).resolve().parents[1]


@functools.cache
def fixed_options() -> Mapping[str, Option]:
    """The keys that every configuration has. Raises `ValueError` where two rooms have the same."""
    found: dict[str, Option] = {}
    for room in _rooms():
        _add(found, room.OPTIONS)
    return found


def dependent_options(values: Mapping[str, Any]) -> Mapping[str, Option]:
    """The keys that a configuration with these `values` of the fixed ones has besides.

    Raises `InputError` where a value names what is not there, an unknown task for instance.
    """
    found: dict[str, Option] = {}
    for room in _rooms():
        if hasattr(room, "options"):
            _add(found, room.options(values))
    return found


def unused_keys(values: Mapping[str, Any]) -> Collection[str]:
    """Keys that a configuration with these `values` of the fixed ones may hold to no effect.

    So a file may set the parameters of more operators than a command line chooses from.
    """
    return {key for room in _rooms() if hasattr(room, "unused") for key in room.unused(values)}


def check_together(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where keys, each legal alone, do not fit together.

    Args:
      values: every key's value, the dependent ones' too.
    """
    for room in _rooms():
        if hasattr(room, "check"):
            room.check(values)


@functools.cache
def _rooms() -> tuple[ModuleType, ...]:
    return tuple(_load(path.parent.name) for path in sorted(_PACKAGE.glob("*/options.py")))


def _load(room: str) -> ModuleType:
    """A room's `options.py` alone: the room itself may import JAX, which takes a second."""
    name = f"{_PACKAGE.name}.{room}.options"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, _PACKAGE / room / "options.py")
        assert spec is not None and spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _add(found: dict[str, Option], options: Mapping[str, Option]) -> None:
    if twice := found.keys() & options.keys():
        raise ValueError(f"two rooms declare {sorted(twice)}; expected one")
    found |= options
