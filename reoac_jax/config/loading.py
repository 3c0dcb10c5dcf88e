"""Configurations: read from a file, changed on the command line, checked whole, then frozen.

A configuration file is a Python file with `get_config()` (see `configs/`) or the `config.json` of a
run. Every key must be there: `SCHEMA` describes all of them but `task.*`, whose keys depend on
`task.name` and are described by the task itself (`reoac_jax.tasks.task_options`).
"""

import argparse
import ast
import difflib
import hashlib
import json
import runpy
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict, FrozenConfigDict

from reoac_jax.config.schema import SCHEMA, Option, check_together, is_text
from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object

__all__ = [
    "SCHEMA",
    "Option",
    "config_hash",
    "load_config",
    "parse_command_line",
    "parse_options",
    "to_json",
    "validate",
]

TaskOptions = Callable[[str], Mapping[str, Option]]
"""Task name to the options of `config.task`, without the prefix `task.`; raises `InputError`."""

_OVERRIDE = "--config."
# Where a run is written and which processes it has, not what it computes.
_PLACES = ("exp_name", "output_dir", "distributed.", "compilation.")


def load_config(
    path: str | Path, overrides: Sequence[str] = (), task_options: TaskOptions | None = None
) -> FrozenConfigDict:
    """Reads a configuration, applies overrides in order and validates the result.

    Args:
      path: a Python file with `get_config()`, or a run's `config.json`.
      overrides: `--config.rollout.max_steps=8` and the like; a tuple is `4,8`, `(4,8)` or `()`.
      task_options: describes the keys `task.*`; without it any plain value is taken for them.

    Raises:
      InputError: the file cannot be read or run, or `validate` refuses what it holds.
    """
    values = _read(Path(path))
    split = [_split_override(text) for text in overrides]
    # The task's name first: it decides which other task keys exist.
    for text, key, value_text in sorted(split, key=lambda item: item[1] != "task.name"):
        _override(values, text, key, value_text, task_options)
    return _validate_flat(values, task_options, f"{path}: ")


def validate(config: Any, task_options: TaskOptions | None = None) -> FrozenConfigDict:
    """Checks a configuration (ConfigDict or nested mapping) and returns it frozen.

    In the result numbers and tuples have their option's own type: 1 given for a float is 1.0, a
    list a tuple. Raises `InputError` at the first key that is unknown, missing or holds what it may
    not, and where keys do not fit together.
    """
    return _validate_flat(_flatten(config), task_options, "")


def parse_command_line(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Parses a command line of ordinary options and `--config.KEY=VALUE` overrides.

    Returns:
      The parser's namespace and the overrides as given, for `load_config`.

    Raises:
      InputError: whatever argparse refuses, and an argument that nobody asked for or no text.
    """
    for text in argv:
        if not is_text(text):
            raise InputError(f"argument {ascii(text)} is not UTF-8; expected UTF-8 text")
    overrides = [text for text in argv if text.startswith(_OVERRIDE)]
    for text in overrides:
        _split_override(text)
    parser.allow_abbrev = False
    parser.error = _refuse_command_line  # type: ignore[method-assign]
    namespace, left = parser.parse_known_args(
        [text for text in argv if not text.startswith(_OVERRIDE)]
    )
    if left:
        name = left[0].split("=")[0]
        options = [option for action in parser._actions for option in action.option_strings]
        known = [*options, *(_OVERRIDE + key for key in SCHEMA)]
        raise InputError(f"argument {left[0]!r} is unknown{_nearest(name, known)}; try --help")
    return namespace, overrides


def parse_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parses a command line that takes no configuration; raises as `parse_command_line` does."""
    namespace, overrides = parse_command_line(parser, argv)
    if overrides:
        raise InputError(
            f"argument {overrides[0]!r} is unknown; expected no override, this command has no "
            "configuration"
        )
    return namespace


def to_json(config: Any) -> dict[str, Any]:
    """The configuration as nested JSON values (tuples become lists), for `files.write_json`."""
    return _nest(
        {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in _flatten(config).items()
        }
    )


def config_hash(config: Any) -> str:
    """SHA-256, in hex, of the configuration without `exp_name`, `output_dir`, `distributed.*` and
    `compilation.*`.

    Two configurations with the same hash compute the same; they may write it to different places.
    """
    values = {k: value for k, value in _flatten(config).items() if not k.startswith(_PLACES)}
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _refuse_command_line(message: str) -> NoReturn:
    raise InputError(f"{message}; try --help")


def _read(path: Path) -> dict[str, Any]:
    """The flat values of the file at `path`."""
    if not path.exists():
        raise InputError(f"config file {path} does not exist; expected one such as configs/tiny.py")
    if not path.is_file() or path.suffix not in (".py", ".json"):
        raise InputError(f"config {path} is no configuration; expected a .py or .json file")
    return _read_json(path) if path.suffix == ".json" else _run_python(path)


def _read_json(path: Path) -> dict[str, Any]:
    return _flatten(read_json_object(path, "a run's config.json", what="config file"))


def _run_python(path: Path) -> dict[str, Any]:
    """Runs the file and flattens what its `get_config()` returns."""
    try:
        names = runpy.run_path(str(path))
        if "get_config" not in names:
            raise InputError(f"config file {path} has no get_config(); expected one")
        config = names["get_config"]()
        if not isinstance(config, ConfigDict):
            kind = type(config).__name__
            raise InputError(f"config file {path}: get_config() gives {kind}; expected ConfigDict")
        return _flatten(config)
    except InputError:
        raise
    except SyntaxError as error:
        where = f"{error.filename or path}, line {error.lineno or 1}"
        raise InputError(
            f"config file {where}: syntax error: {error.msg}; expected Python"
        ) from error
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise InputError(f"config file {where}: {type(error).__name__}: {error}") from error


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """`{"rollout.max_steps": 32, ...}` of a ConfigDict or nested mapping."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict | Mapping):
            if not len(value):
                values[f"{prefix}{key}"] = {}  # kept, so that it can be refused
            values |= _flatten(value, f"{prefix}{key}.")
        else:
            values[f"{prefix}{key}"] = value
    return values


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `_flatten`, as plain dicts."""
    nested: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        section = nested
        for name in sections:
            section = section.setdefault(name, {})
        section[last] = value
    return nested


def _split_override(text: str) -> tuple[str, str, str]:
    """`--config.a.b=value` to `(text, "a.b", "value")`."""
    key, equals, value = text.removeprefix(_OVERRIDE).partition("=")
    if not text.startswith(_OVERRIDE) or not equals or not key:
        raise InputError(f"override {text!r} is incomplete; expected --config.KEY=VALUE")
    return text, key, value


def _override(
    values: dict[str, Any], text: str, key: str, value_text: str, task_options: TaskOptions | None
) -> None:
    """Writes one override into the flat `values`."""
    if key not in values:
        if inside := [known for known in values if known.startswith(f"{key}.")]:
            raise InputError(f"{text}: {key!r} is a section; expected a key such as {inside[0]!r}")
        raise InputError(f"{text}: {_unknown(key, values)}")
    option = _schema(values, task_options).get(key)
    if option is None:
        raise InputError(f"{text}: {_unknown(key, SCHEMA)}")
    try:
        values[key] = option.accept(_parse(value_text, option.kind))
    except ValueError:
        raise InputError(f"{text}: expected {option.expected}") from None


def _parse(text: str, kind: str) -> Any:
    """The value a command line's text stands for. Raises `ValueError`."""
    match kind:
        case "str":
            return text
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            return {"true": True, "false": False}.get(text.lower(), text)
    if text.startswith(("(", "[")):
        try:
            value = ast.literal_eval(text)
            return value if isinstance(value, tuple | list) else (value,)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass  # a pattern such as (attn_qkv|attn_out), or a mistake found below
    items = [item.strip() for item in text.split(",") if item.strip()]
    if any(item.count("(") != item.count(")") for item in items):
        raise ValueError(text)
    return tuple(int(item) for item in items) if kind == "ints" else tuple(items)


def _schema(values: Mapping[str, Any], task_options: TaskOptions | None) -> dict[str, Option]:
    """Every key the configuration may hold, the keys of its task included."""
    if "task.name" not in values:
        raise InputError("key 'task.name' is missing; expected the name of a task")
    name = values["task.name"]
    if not isinstance(name, str) or not name:
        raise InputError(f"task.name is {name!r}; expected the name of a task")
    if task_options is not None:
        own = {f"task.{key}": option for key, option in task_options(name).items()}
    else:
        task = {key: value for key, value in values.items() if key.startswith("task.")}
        own = {key: Option(_kind(key, value), "of the task") for key, value in task.items()}
    return {**SCHEMA, **own, "task.name": Option("str", "name of the task")}


def _kind(key: str, value: Any) -> Any:
    """The option kind of a plain value. Raises `InputError`."""
    if isinstance(value, tuple | list):
        return "ints" if all(isinstance(item, int) for item in value) else "strs"
    for kind, kind_type in (("bool", bool), ("int", int), ("float", float), ("str", str)):
        if isinstance(value, kind_type):
            return kind
    raise InputError(f"{key} is {value!r}; expected a number, a text or a tuple of them")


def _validate_flat(
    values: Mapping[str, Any], task_options: TaskOptions | None, source: str
) -> FrozenConfigDict:
    """Checks the flat `values`; messages begin with `source`."""
    try:
        schema = _schema(values, task_options)
        for key in values:
            if key in schema:
                continue
            if inside := [known for known in schema if known.startswith(f"{key}.")]:
                if values[key] == {}:
                    continue  # an empty section: its keys are missing
                raise InputError(f"{key!r} is no section; expected keys such as {inside[0]!r}")
            raise InputError(_unknown(key, schema))
        if missing := [key for key in schema if key not in values]:
            expected = schema[missing[0]].expected
            raise InputError(f"key {missing[0]!r} is missing; expected {expected}")
        accepted = {}
        for key, option in schema.items():
            try:
                accepted[key] = option.accept(values[key])
            except ValueError:
                raise InputError(f"{key} is {values[key]!r}; expected {option.expected}") from None
        check_together(accepted)
    except InputError as error:
        raise InputError(f"{source}{error}") from None
    return FrozenConfigDict(_nest(accepted))


def _unknown(key: str, known: Iterable[str]) -> str:
    """What is wrong with a key: the nearest known one, or else all that stand where it does."""
    near = _nearest(key, known)
    if not near:
        section, dot, _ = key.rpartition(".")
        inside = [name for name in known if name.startswith(f"{section}{dot}")]
        names = {name.removeprefix(f"{section}{dot}").split(".")[0] for name in inside or known}
        near = f"; expected one of {', '.join(sorted(names))}"
    return f"key {key!r} is unknown{near}"


def _nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean '...'?)`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
