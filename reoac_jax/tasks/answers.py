"""Final numeric answers: found in a text, read exactly, compared exactly."""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

_MOST_DIGITS = 400  # a longer run of digits is no answer, and int() refuses 4 300 of them

_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]+)?|(?<![0-9.])\.[0-9]+)"
_CURRENCY = r"(?:\\?[$€£]\s?)"
# A sign counts only where no operand stands right before it: "12-5" ends in 5, "= -5" in -5.
_SIGN = r"(?:(?<![\w)\]}%.])[-+\u2212])"
_NUMBER = re.compile(
    rf"(?P<sign>{_SIGN})?{_CURRENCY}?(?P<inner_sign>{_SIGN})?"
    r"(?:(?P<whole>[0-9]+)\s+(?=[0-9]+/[0-9]))?"
    rf"(?P<top>{_DECIMAL})(?:\s?/\s?(?P<bottom>{_DECIMAL}))?"
)
_LOOSE_SIGN = re.compile(r"^\s*([-+\u2212])\s+(?=[\\$€£0-9.])")
MARK = "####"


class NumericAnswer(NamedTuple):
    """A number found in a text: `text` as written, `value` exactly, `start` its first character."""

    text: str
    value: Fraction
    start: int


def final_answer(text: str) -> NumericAnswer | None:
    """The number that `text` gives as its answer; None if it holds no number.

    It is the first number behind the last `####`; without a number there, the last number of the
    text. Understood are signs, thousands separators, `$`, `%`, decimals, fractions `a/b`, mixed
    numbers `a b/c` and units behind the number. A percent sign is a unit: GSM8K's answers to
    "what percentage" are published without it.
    """
    before, mark, after = text.rpartition(MARK)
    if mark:
        # A word-level tokenizer writes "- 5"; right behind the mark that can only be a sign.
        first = next(_numbers(_LOOSE_SIGN.sub(r"\1", after)), None)
        if first is not None:
            return first
        text = before
    return max(_numbers(text), key=lambda number: number.start, default=None)


def has_final_answer(text: str) -> bool:
    """Whether a number stands behind the text's last `####`."""
    _, mark, after = text.rpartition(MARK)
    return bool(mark) and next(_numbers(_LOOSE_SIGN.sub(r"\1", after)), None) is not None


def _numbers(text: str) -> Iterator[NumericAnswer]:
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is not None:
            yield NumericAnswer(match.group().strip(), value, match.start())


def _value(match: re.Match[str]) -> Fraction | None:
    if len(match.group()) > _MOST_DIGITS:
        return None
    whole, top, bottom = (
        Fraction((match[name] or default).replace(",", ""))
        for name, default in (("whole", "0"), ("top", "0"), ("bottom", "1"))
    )
    if bottom == 0:
        return None
    value = whole + top / bottom
    signs = (match["sign"] or "") + (match["inner_sign"] or "")
    return -value if signs.count("-") + signs.count("\u2212") == 1 else value
