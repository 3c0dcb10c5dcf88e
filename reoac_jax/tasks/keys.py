"""Key spans of a prompt (DESIGN.md section 6): the numbers, units and operations it is about."""

import re

_UNITS = (
    "dollars? usd cents? kg kilograms? g grams? meters? cm mm km hours? minutes? seconds? "
    "percent percentage each per rate"
)
_OPERATIONS = "sum difference product ratio times total plus minus divided divide equals equal"
_LATEX = "frac sqrt boxed log sin cos tan cdot times div le ge"

KEY_SPAN_PATTERNS = (
    re.compile(r"(?<![\w.])[+-]?(?:\d+\.\d+|\d+|\d+/\d+)%?(?![\w.])"),
    re.compile(rf"\b(?:{'|'.join(_UNITS.split())})\b", re.IGNORECASE),
    re.compile(rf"\b(?:{'|'.join(_OPERATIONS.split())})\b", re.IGNORECASE),
    re.compile(rf"\\(?:{'|'.join(_LATEX.split())})(?![A-Za-z])"),
    re.compile(r"[+*/=<>&^_-]"),
    re.compile(r"\$\$?"),
)


def key_characters(prompt: str) -> list[bool]:
    """For each character of the prompt: whether a key span covers it."""
    covered = [False] * len(prompt)
    for pattern in KEY_SPAN_PATTERNS:
        for match in pattern.finditer(prompt):
            covered[match.start() : match.end()] = [True] * (match.end() - match.start())
    return covered
