"""Configurations: read from a file, changed on the command line, checked whole, then frozen.

A configuration file is a Python file whose `get_config()` changes what differs from `base()` (see
`configs/`), or the `config.json` of a run, which holds every key. The keys, their defaults and
ranges are those that the rooms declare (`reoac_jax.config.rooms`).
"""

import argparse
import ast
import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict, FrozenConfigDict

from reoac_jax.config.reading import flatten, is_record, read_config
from reoac_jax.config.rooms import check_together, dependent_options, fixed_options, unused_keys
from reoac_jax.config.schema import Option, is_text
from reoac_jax.system import formats
from reoac_jax.system.errors import InputError

_OVERRIDE = "--config."
# Where and how a run is written and which processes it has, not what it computes.
_PLACES = ("exp_name", "output_dir", "distributed.", "compilation.", formats.KEY)


def base() -> ConfigDict:
    """Every key at its default, for a configuration file to change what differs.

    The keys that depend on a choice, such as the task's on `task.name`, are not in it: those the
    file does not set are filled in when it is loaded.
    """
    values = {key: option.default for key, option in fixed_options().items()}
    # Not type-safe: `validate` says better what a key may hold.
    return ConfigDict(_nest(values), type_safe=False)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> FrozenConfigDict:
    """Reads a configuration, applies overrides in order and validates the result.

    Args:
      path: a Python file with `get_config()`, `FILE.py:ARGUMENT` for `get_config(ARGUMENT)`, or a
        run's `config.json`. A key that a Python file leaves out has its default; a `config.json`
        records a run and has to hold them all, but for those that came later (`Option.before`).
      overrides: `--config.rollout.max_steps=8` and the like; a tuple is `4,8`, `(4,8)` or `()`.

    Raises:
      InputError: the file cannot be read or run, or `validate` refuses what it holds.
    """
    values = read_config(path)
    if is_record(path):
        values = _values_before(fixed_options()) | values
    split = [_split_override(text) for text in overrides]
    # The fixed keys first: they decide which others exist, as task.name does.
    for text, key, value_text in split:
        if key in fixed_options():
            values[key] = _accepted(text, fixed_options()[key], value_text)
    with _of(path):
        options = _options(values)
    if is_record(path):
        values = _values_before(options) | values
    for text, key, value_text in split:
        if key in fixed_options():
            continue
        if key not in options:
            if inside := [known for known in options if known.startswith(f"{key}.")]:
                raise InputError(
                    f"{text}: {key!r} is a section; expected a key such as {inside[0]!r}"
                )
            raise InputError(f"{text}: {_unknown(key, options)}")
        values[key] = _accepted(text, options[key], value_text)
    with _of(path):
        return _validate_flat(values, complete=is_record(path))


def validate(config: Any) -> FrozenConfigDict:
    """Completes a configuration (ConfigDict or nested mapping), checks it and returns it frozen.

    In the result every key is there that has an effect, and numbers and tuples have their option's
    own type: 1 given for a float is 1.0, a list a tuple. Raises `InputError` at the first key that
    is unknown or holds what it may not, and where keys do not fit together.
    """
    values = flatten(config)
    values.pop(formats.KEY, None)
    return _validate_flat(values, complete=False)


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
            raise InputError(
                f"argument {ascii(text)} is not UTF-8; expected UTF-8 text, and a locale of it"
            )
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
        known = [*options, *(_OVERRIDE + key for key in fixed_options())]
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
    """The configuration as nested JSON values (tuples become lists), for `files.write_json`.

    With the number of the run's format in front.
    """
    return {formats.KEY: formats.RUN} | _nest(
        {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in flatten(config).items()
        }
    )


def config_hash(config: Any) -> str:
    """SHA-256, in hex, of the configuration without `exp_name`, `output_dir`, `distributed.*` and
    `compilation.*`.

    Two configurations with the same hash compute the same; they may write it to different places.
    A key that holds what was done before there was the key (`Option.before`) is left out, so that
    the hash of what computes the same stays as it was.
    """
    flat = flatten(config)
    try:
        earlier = _values_before(_options(flat))
    except InputError:  # of another version
        earlier = _values_before(fixed_options())
    values = {
        key: value
        for key, value in flat.items()
        if not key.startswith(_PLACES) and not (key in earlier and value == earlier[key])
    }
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _values_before(options: Mapping[str, Option]) -> dict[str, Any]:
    """What was done before there were some of these keys."""
    return {key: option.before for key, option in options.items() if option.before is not None}


def _refuse_command_line(message: str) -> NoReturn:
    raise InputError(f"{message}; try --help")


def _nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`, as plain dicts."""
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


def _accepted(text: str, option: Option, value_text: str) -> Any:
    """The value of one override, `text`."""
    try:
        return option.accept(_parse(value_text, option.kind))
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


def _options(values: Mapping[str, Any]) -> dict[str, Option]:
    """Every key that a configuration with these flat `values` has."""
    fixed = fixed_options()
    return {**fixed, **dependent_options(_values_of(fixed, values))}


def _values_of(options: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """The value of each option: the given one, or else the default."""
    accepted = {}
    for key, option in options.items():
        if key not in values and option.default is None:
            raise InputError(f"key {key!r} is missing; expected {option.expected}")
        try:
            accepted[key] = option.accept(values[key]) if key in values else option.default
        except ValueError:
            raise InputError(f"{key} is {values[key]!r}; expected {option.expected}") from None
    return accepted


def _validate_flat(values: Mapping[str, Any], complete: bool) -> FrozenConfigDict:
    """Checks the flat `values`, to which defaults are added unless they have to be `complete`."""
    options = _options(values)
    unused = unused_keys(_values_of(fixed_options(), values))
    for key in values:
        if key in options or key in unused:
            continue
        if inside := [known for known in options if known.startswith(f"{key}.")]:
            if values[key] == {}:
                continue  # an empty section: its keys have their defaults
            raise InputError(f"{key!r} is no section; expected keys such as {inside[0]!r}")
        raise InputError(_unknown(key, options))
    if complete and (missing := [key for key in options if key not in values]):
        expected = options[missing[0]].expected
        raise InputError(f"key {missing[0]!r} is missing; expected {expected}")
    accepted = _values_of(options, values)
    check_together(accepted)
    return FrozenConfigDict(_nest(accepted))


@contextmanager
def _of(source: str | Path) -> Iterator[None]:
    """Within it the message of an `InputError` begins with the source's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


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
