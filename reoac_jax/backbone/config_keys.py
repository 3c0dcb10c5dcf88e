"""The keys of a published `config.json`, each checked as it is read."""

import json
from collections.abc import Mapping
from typing import Any

from reoac_jax.system.errors import InputError


class Keys:
    """The keys of one `config.json`; every refusal names the file, the key and what it may hold."""

    def __init__(self, values: Mapping[str, Any], where: str):
        self.values = values
        self.where = where

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def _value(self, name: str, expected: str) -> Any:
        if name not in self.values:
            raise InputError(f"{self.where} has no key '{name}'; expected {expected}")
        return self.values[name]

    def refusal(self, name: str, expected: str) -> InputError:
        """What to raise where the key's value is not the expected one."""
        return InputError(f"{self.where}: {name} is {self.values[name]!r}; expected {expected}")

    def count(self, name: str) -> int:
        """A positive integer that a shape can hold."""
        value = self._value(name, "a positive integer")
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
            raise self.refusal(name, "a positive integer below 2**31")
        return value

    def positive(self, name: str) -> float:
        """A positive finite number."""
        value = self._value(name, "a positive number")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(name, "a positive number")
        if not 0 < value < float("inf"):
            raise self.refusal(name, "a positive number")
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._value(name, "true or false")
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false")
        return value

    def token(self, name: str) -> int | None:
        """A token id, or None where the key is absent or null; of a list, the first."""
        value = self.values.get(name)
        if isinstance(value, list) and value:
            value = value[0]
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.refusal(name, "a token id")
        return value

    def must_be(self, name: str, *allowed: Any, required: bool = True) -> None:
        """Refuses a variant that the module does not compute.

        Args:
          allowed: the values that it does compute, null (None) among them where that means one.
          required: False where the published class's own default is one of `allowed`.
        """
        words = " or ".join(json.dumps(value) for value in allowed)
        if name not in self.values and not required:
            return
        value = self._value(name, words)
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool)
                   for one in allowed):  # fmt: skip
            raise self.refusal(name, f"{words}; other variants are not supported")
