"""Numeric expressions in a text: found, and read exactly (DESIGN.md, section 10).

A text is cut into expressions: numbers that signs, brackets or nothing but space join. The value of
one is what stands behind its last `=`, if that is exactly one number; a number that is followed by
what continues it (`1.2 million`, `10/2`, `3:30`, `2x`) is read whole or is none.
"""

import itertools
import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from reoac_jax.tasks.expression_tokens import Token, tokens_of
from reoac_jax.tasks.statements import brackets_start, statements

_MOST_DIGITS = 400  # a longer run of digits is no answer, and int() refuses 4 300 of them
_MOST_OPERANDS = 12  # of the side that is read; a number has at most three

# Words for so many of what the number before them counts.
SCALES = frozenset(
    "hundred hundreds thousand thousands million millions billion billions trillion trillions"
    " quadrillion quadrillions milliard milliards lakh lakhs crore crores dozen dozens mil mln mio"
    " mill bn tn kk".split()
)
# Words that change the value of the number before them, or that say there is more of it.
CONTINUING = SCALES.union(
    "half halves thirds fourths fifths sixths sevenths eighths ninths tenths hundredths thousandths"
    " squared cubed factorial choose mod modulo plus minus divided multiplied or k x y z".split()
)
# The same of Chinese: ten, hundred, thousand, ten thousand and its powers.
_CONTINUING_CHARACTERS = "\u5341\u767e\u5343\u4e07\u842c\u4ebf\u5104\u5146"
_PART = frozenset("half third quarter fourth fifth sixth eighth tenth".split())
# Words before a number that say another one: "minus 5", "twice 5".
_CHANGING = frozenset("minus negative twice thrice double triple".split())
_UNIT_LETTERS = frozenset("gmlhstpcdfwvajnLCFGWVAJN")  # "5m"; other letters are names: "2x"
# "1 e3", as some tokenizers part it, and the remainder of "5 r2".
_EXPONENT = re.compile(r"[eErR][0-9]+")
_FUNCTIONS = frozenset("sqrt log ln exp sin cos tan abs gcd lcm max min floor ceil round".split())
_WITHOUT_BRACKETS = frozenset("sqrt log ln exp sin cos tan".split())  # "sqrt 16"

_SIDE = re.compile(r"\(*(?P<sign>[-+]?)\(*(?P<number>n/n|nn/n|n\*n\^[-+]?n|n\^[-+]?n|n)\)*")


class NumericAnswer(NamedTuple):
    """A number found in a text: `text` as written (in plain characters), `value` exactly."""

    text: str
    value: Fraction


def numeric_expressions(text: str, only: int | None = None) -> list[NumericAnswer | None]:
    """The text's numeric expressions in order, None where one's value is no number.

    only: 0 or -1 for the first or the last alone, in a list that is empty where there is none.
    """
    tokens = tokens_of(text)
    runs = list(itertools.chain(*statements(tokens)))
    if only is not None:
        runs = runs[only:][:1]
    return [_expression(tokens, run) for run in runs]


def gives_several(text: str) -> bool:
    """Whether a text that should state one number states several.

    So do equations of different values ("x = 5, y = 6"), and a number that only counts what stands
    behind it ("1) 5").
    """
    tokens = tokens_of(text)
    joined = statements(tokens)
    runs = list(itertools.chain(*joined))
    if len(runs) < 2:
        return False
    stating = [run for some in joined for run in some if len(some) > 1 or _is_equation(tokens, run)]
    if _counts(tokens, runs[0], runs[1]):
        stating += runs[:2]
    return len({found and found.value for found in (_expression(tokens, r) for r in stating)}) > 1


def _is_equation(tokens: Sequence[Token], run: Sequence[int]) -> bool:
    """Whether an equals sign stands in the run or in front of it, as in "x = 5"."""
    start = max(brackets_start(tokens, run[0]) - 1, 0)
    return any(token.kind == "equals" for token in tokens[start : run[-1]])


def _counts(tokens: Sequence[Token], first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether the `first` run is the "1)", "1." or "1:" of a list, with the `second` behind it."""
    gap = tokens[first[-1] + 1 : second[0]]
    return (
        len(gap) > 0
        and (gap[0].text in ".:" or gap[0].kind == "close")
        and all(token.kind == "open" for token in tokens[: first[-1]])
        and all(token.kind in ("open", "currency", "sign") for token in gap[1:])
    )


def _expression(tokens: Sequence[Token], run: Sequence[int]) -> NumericAnswer | None:
    """The value behind the run's last `=`; None unless exactly one number stands there."""
    first, last = run[0], run[-1]
    if any(token.text.lower() == "or" for token in tokens[first:last]):
        return None  # "x = 5 or x = 6" gives two
    start = first
    while (
        start > 0
        and not tokens[start].new_line
        and tokens[start - 1].kind in ("open", "currency", "sign", "operator", "command")
        and not _is_bullet(tokens, start - 1)
    ):
        start -= 1
    for index in range(last - 1, first, -1):
        if tokens[index].kind == "equals":
            start = index + 1
            break
    else:
        if not _begins(tokens, start, first):
            return None
    side = tokens[start : last + 1]
    if not _ends(tokens, last):
        return None
    numbers = [token for token in side if token.kind == "number"]
    if len(numbers) > _MOST_OPERANDS:
        return None
    letters = {"number": "n", "open": "(", "close": ")", "currency": "", "unit": "u"}
    signature = "".join(
        token.text if token.kind in ("sign", "operator") else letters.get(token.kind, "?")
        for token in side
    )
    match = _SIDE.fullmatch(signature)
    if match is None:
        return None
    value = _value(match["number"], [token.text for token in numbers])
    if value is None:
        return None
    text = "".join(
        (" " if token.spaced and place else "") + token.text for place, token in enumerate(side)
    )
    return NumericAnswer(text, -value if match["sign"] == "-" else value)


def _is_bullet(tokens: Sequence[Token], place: int) -> bool:
    """Whether this is the star of "* 72", a list's item, at the beginning or behind "total:"."""
    token, before = tokens[place], tokens[place - 1] if place else None
    return (
        token.text == "*"
        and tokens[place + 1].spaced
        and (before is None or (token.new_line and before.kind == "point"))
    )


def _begins(tokens: Sequence[Token], start: int, first: int) -> bool:
    """Whether a number may begin at `start`, whose first digit token is `first`."""
    # The argument of a command is no number by itself: "\\frac{x}{4}", "\\sqrt{16}".
    place = start
    while place > 0 and not tokens[place].spaced:
        place -= 1
        if tokens[place].kind == "command":
            return False
    before = tokens[start - 1] if start > 0 and not tokens[start].new_line else None
    head = tokens[start]
    if head.kind == "sign":
        attached = not tokens[start + 1].spaced
        # A word-level tokenizer writes "- 5"; at the beginning that can only be a sign.
        if not attached and before is not None and before.kind not in ("equals", "open"):
            return False
        if not attached and start > 0 and before is None:
            return False
    if before is None:
        return True
    word = before.text.lower()
    if word in _CHANGING or word in _WITHOUT_BRACKETS:
        return False
    if word == "of" and start > 1 and tokens[start - 2].text.lower().removesuffix("s") in _PART:
        return False  # "a third of 12"
    if before.kind == "word" and not head.spaced and head.kind in ("sign", "open"):
        return False  # "step-5", "f(5)"
    if before.kind == "word" and head.kind in ("sign", "open"):
        return len(before.text) > 1 and before.text.lower() not in _FUNCTIONS
    if before.kind == "point" and not head.spaced and not before.spaced and start > 1:
        named = tokens[start - 2]
        if named.kind == "word" and any(character.isdigit() for character in named.text):
            return False  # "v1.2", "B1,000"
    if before.kind == "point" and before.text == "." and not head.spaced:
        # "Rs.5" has a point of its own; "..5" has not.
        return start > 1 and tokens[start - 2].kind == "word" and not before.spaced
    return not (before.kind in ("close", "unit") and head.kind == "sign")


def _ends(tokens: Sequence[Token], last: int) -> bool:
    """Whether nothing behind the number at `last` continues it."""
    index = last + 1
    while index < len(tokens) and tokens[index].kind in ("close", "unit", "currency"):
        if tokens[index].new_line:
            return True
        index += 1
    if index == len(tokens) or tokens[index].new_line:
        return True
    token = tokens[index]
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if after is not None and after.new_line:
        after = None
    if token.kind in ("command", "equals"):
        return False
    if token.kind == "sign":
        # "5 - because ..." and "5-pound bags", but not "5-" nor "5-x".
        return (
            token.text == "-"
            and after is not None
            and after.kind == "word"
            and token.spaced == after.spaced
            and (len(after.text) > 1 or after.text in "aI")
            and (token.spaced or after.text.lower() not in CONTINUING)  # "5-million"
        )
    if token.kind == "operator":
        # "60 miles/hour" has a unit, "48/" and "5/x" go on.
        return (
            token.text == "/"
            and after is not None
            and after.kind == "word"
            and (len(after.text) > 1 or after.text in _UNIT_LETTERS)
        )
    if token.kind == "open":
        # "72 (48 of them red)", but not "5(x)" or "5 (in thousands)".
        inside = [following.text.lower() for following in tokens[index + 1 : index + 3]]
        return token.spaced and CONTINUING.isdisjoint(inside)
    if token.kind == "point":
        goes_on = after is not None and not after.spaced and after.kind in ("point", "command")
        return not (token.text == "." and not token.spaced and goes_on)
    if token.kind == "other":
        return token.spaced or not _combines(token.text)
    if token.kind != "word":
        return True
    word = token.text
    if word[0] in _CONTINUING_CHARACTERS:
        return False
    if not token.spaced and index == last + 1:
        if any(character.isdigit() or character == "_" for character in word):
            return False
        if len(word) == 1 and word not in _UNIT_LETTERS:
            return False
    if word.lower() == "or" and after is not None and after.text.lower() == "so":
        return True  # "72 or so"
    if word.lower() in CONTINUING or word in ("K", "M", "B") or _EXPONENT.fullmatch(word):
        return False
    if word.lower() in ("and", "a") and after is not None:
        # "2 and a half"
        nearby = [following.text.lower() for following in tokens[index + 1 : index + 3]]
        return not _PART.intersection(nearby)
    if after is None:
        return True
    # "48 apples /", "5 apples =": the expression is not finished.
    unfinished = after.kind in ("operator", "equals") or after.text == "+"
    following = tokens[index + 2] if index + 2 < len(tokens) else None
    per = after.text == "/" and following is not None and following.kind == "word"
    return not unfinished or after.text == "!" or per


def _combines(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _value(form: str, numbers: Sequence[str]) -> Fraction | None:
    if any(len(number) > _MOST_DIGITS for number in numbers):
        return None
    if form == "n":
        return _number(numbers[0])
    if "^" in form:  # 3*10^2: scientific notation; other powers are sums still to be done
        base, exponent = numbers[-2], numbers[-1]
        if base != "10" or not exponent.isdigit() or int(exponent) > _MOST_DIGITS:
            return None
        power = Fraction(10) ** (-int(exponent) if "-" in form else int(exponent))
        factor = _number(numbers[0]) if "*" in form else Fraction(1)
        return None if factor is None else factor * power
    *whole, top, bottom = (_whole_number(number) for number in numbers)
    if top is None or not bottom or top % bottom == 0:
        return None  # a division that is not finished, or none at all
    if not whole:
        return Fraction(top, bottom)
    if whole[0] is None or top > bottom:
        return None
    return whole[0] + Fraction(top, bottom)


_GROUPING = str.maketrans("", "", ",' _")


def _number(text: str) -> Fraction | None:
    mantissa, _, exponent = text.lower().translate(_GROUPING).partition("e")
    power = int(exponent or "0")
    if abs(power) > _MOST_DIGITS:
        return None
    return Fraction(mantissa) * Fraction(10) ** power


def _whole_number(text: str) -> int | None:
    digits = text.replace(",", "")
    return int(digits) if digits.isdigit() else None
