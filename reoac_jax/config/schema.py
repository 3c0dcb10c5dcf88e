"""What one key of a configuration may hold: its type, default, range and meaning."""

import dataclasses
import math
from typing import Any, Literal

Kind = Literal["int", "float", "str", "bool", "ints", "strs"]
_NOUNS = {
    "int": "an integer",
    "float": "a number",
    "str": "a text",
    "bool": "True or False",
    "ints": "a tuple of integers",
    "strs": "a tuple of texts",
}


@dataclasses.dataclass(frozen=True)
class Option:
    """What one key may hold. Raises `ValueError` where the default is not legal itself.

    Attributes:
      kind: type; a "float" also takes an integer, "ints" and "strs" are tuples of any length.
      doc: what the key means, in one line.
      default: the value where a configuration file says nothing; None: the file has to say it.
      choices: the legal values (of each element, in a tuple); None: any.
      low, high: inclusive bounds of a number (of each element, in a tuple); None: unbounded.
      before: the value that says what was done before there was the key; None: it was always there.
        A record without the key holds it, and the hash of a configuration that holds it is that of
        one without the key.
    """

    kind: Kind
    doc: str
    default: Any = None
    _: dataclasses.KW_ONLY
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    before: Any = None

    def __post_init__(self) -> None:
        for name in ("default", "before"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, self.accept(getattr(self, name)))

    @property
    def expected(self) -> str:
        """The legal values in words, as an error message says them."""
        if self.choices is not None:
            listed = ", ".join(str(choice) for choice in self.choices)
            return f"a tuple of {listed}" if self.kind == "strs" else f"one of {listed}"
        noun = _NOUNS[self.kind]
        if self.low is not None and self.high is not None:
            return f"{noun} from {self.low} to {self.high}"
        if self.low is not None:
            return f"{noun}, {self.low} or more"
        if self.high is not None:
            return f"{noun}, {self.high} or less"
        return noun

    def accept(self, value: Any) -> Any:
        """`value` in the kind's own type (float, tuple). Raises `ValueError` if it is not legal."""
        if self.kind in ("ints", "strs"):
            if not isinstance(value, tuple | list):
                raise ValueError(value)
            kind: Kind = "int" if self.kind == "ints" else "str"
            element = dataclasses.replace(self, kind=kind, default=None, before=None)
            return tuple(element.accept(item) for item in value)
        legal_types = {"int": int, "float": int | float, "str": str, "bool": bool}[self.kind]
        if not isinstance(value, legal_types):
            raise ValueError(value)
        if isinstance(value, bool) and self.kind != "bool":
            raise ValueError(value)
        if self.kind == "float":
            try:
                value = float(value)
            except OverflowError:
                raise ValueError(value) from None
            if not math.isfinite(value):
                raise ValueError(value)
        if self.kind == "str" and (not value.strip() or "\0" in value or not is_text(value)):
            raise ValueError(value)
        if self.choices is not None and value not in self.choices:
            raise ValueError(value)
        if self.low is not None and value < self.low or self.high is not None and value > self.high:
            raise ValueError(value)
        return value


def is_text(value: str) -> bool:
    """Whether `value` can be written as UTF-8; bytes that were none come as half characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
