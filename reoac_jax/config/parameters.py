"""Members of a registry with parameters of their own: `NAME` or `NAME:parameter=value,...`.

A member is a frozen dataclass in a file of its own; its fields are made by `parameter`, which says
beside the default what they may hold. `members` finds them by listing their folder, so that a new
one is a new file and nothing else.
"""

import copy
import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar, Self, TypeVar

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError

_KINDS = {bool: "bool", int: "int", float: "float", str: "str"}
_OPTION = "option"


def parameter(
    default: bool | int | float | str,
    doc: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field of a member. Its kind is the default's; the rest is as in `Option`."""
    kind: Any = _KINDS[type(default)]
    option = Option(kind, doc, default, choices=choices, low=low, high=high)
    return dataclasses.field(default=option.default, metadata={_OPTION: option})


@dataclasses.dataclass(frozen=True)
class Parametric:
    """Base of all members. What a parameter holds is checked when one is made.

    A parameter of kind "float" is a number: `numbers` may be traced by `jit`, so that a program is
    compiled once for all its values. All others are structure.

    Raises:
      InputError: a parameter holds what it may not.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for name, option in self.parameters().items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, option.accept(value))
            except ValueError:
                raise InputError(
                    f"{self.name}: {name} is {value!r}; expected {option.expected}"
                ) from None

    @classmethod
    def parameters(cls) -> Mapping[str, Option]:
        """What each parameter may hold."""
        return {field.name: field.metadata[_OPTION] for field in dataclasses.fields(cls)}

    @property
    def numbers(self) -> dict[str, float]:
        """The values of the parameters that are numbers."""
        options = self.parameters()
        return {name: getattr(self, name) for name in options if options[name].kind == "float"}

    def with_numbers(self, numbers: Mapping[str, Any]) -> Self:
        """The same member with other numbers, arrays also; they are not checked."""
        other = copy.copy(self)
        for name, number in numbers.items():
            object.__setattr__(other, name, number)
        return other

    def __str__(self) -> str:
        """As `parse_member` reads it, with the parameters that differ from their defaults."""
        changed = [
            f"{field.name}={value_text(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}:{','.join(changed)}" if changed else self.name


_Base = TypeVar("_Base")
_Member = TypeVar("_Member", bound=Parametric)


def members(package: ModuleType, base: type[_Base]) -> dict[str, type[_Base]]:
    """The members that a package's modules define, by name, in the order of the file names.

    A member is a subclass of `base` with a `name` of its own, in the module that defines it.
    """
    found: dict[str, type[_Base]] = {}
    for entry in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for member in vars(importlib.import_module(entry.name)).values():
            if (
                isinstance(member, type)
                and issubclass(member, base)
                and member.__module__ == entry.name
                and "name" in vars(member)
            ):
                found[vars(member)["name"]] = member
    return found


def parse_member(text: str, known: Mapping[str, type[_Member]], what: str) -> _Member:
    """The member that `NAME` or `NAME:parameter=value,...` stands for.

    what: where the text stands, for the message.

    Raises:
      InputError: no such name or parameter, or a value that it may not hold.
    """
    member, values = parse_values(text, known, what)
    try:
        return member(**values)
    except InputError as error:
        raise InputError(f"{what} is {text!r}: {error}") from None


def parse_values(
    text: str, known: Mapping[str, type[_Member]], what: str
) -> tuple[type[_Member], dict[str, Any]]:
    """The type of member that a text names, and the parameters that it gives; as `parse_member`."""
    name, _, given = text.partition(":")
    if name not in known:
        raise InputError(
            f"{what} is {text!r}; expected one of {', '.join(known)}{nearest(name, known)}"
        )
    options = known[name].parameters()
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in given.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if key not in options:
            raise InputError(
                f"{what} is {text!r}: {name} has no parameter {key!r}{nearest(key, options)}; "
                f"expected {_listed(options)}"
            )
        try:
            if not equals or key in values:
                raise ValueError(item)
            values[key] = options[key].accept(_read(value, options[key].kind))
        except ValueError:
            raise InputError(
                f"{what} is {text!r}: {item!r}; expected {key}= once, {options[key].expected}"
            ) from None
    return known[name], values


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean '...'?)`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def describe(member: type[Parametric]) -> list[str]:
    """A member in lines: what it is, then each parameter with default and legal values."""
    summary = (member.__doc__ or "").strip().splitlines()[0]
    lines = [f"{member.name}: {summary}"]
    for field in dataclasses.fields(member):
        option: Option = field.metadata[_OPTION]
        lines.append(
            f"    {field.name}={value_text(field.default)}  {option.doc} ({option.expected})"
        )
    return lines


def _listed(options: Mapping[str, Option]) -> str:
    return f"one of {', '.join(options)}" if options else "none, it has no parameters"


def value_text(value: Any) -> str:
    """A value as it is written on a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(text: str, kind: str) -> Any:
    """The value of a text. Raises `ValueError`."""
    match kind:
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "bool":
            return {"true": True, "false": False}.get(text.lower(), text)
    return text
