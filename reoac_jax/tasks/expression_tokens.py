"""What numeric expressions are made of: numbers, words, signs and marks of a text."""

import re
from typing import NamedTuple

from reoac_jax.tasks.notation import plain_text

_TOKEN = re.compile(
    r"""
      (?P<number>
        (?: [1-9][0-9]{0,2}(?:,[0-9]{3}){1,130}(?![0-9])            # 1,450,000
          | [1-9][0-9]?(?:,[0-9]{2}){1,60},[0-9]{3}(?![0-9])        # 5,00,000
          | [1-9][0-9]{0,2}(?:[ ][0-9]{3}){1,130}(?![0-9])          # 1 450 000
          | [1-9][0-9]{0,2}(?:'[0-9]{3}){1,130}(?![0-9])            # 1'450'000
          | [1-9][0-9]{0,2}(?:_[0-9]{3}){1,130}(?![0-9])            # 1_450_000
          | [0-9]+
        )(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,6}(?![0-9A-Za-z_]))?
      | (?<![\w.])\.[0-9]+(?:[eE][-+]?[0-9]{1,6}(?![0-9A-Za-z_]))?
      )
    | (?P<word>[^\W\d_]\w*)
    | (?P<command>\\[A-Za-z]+)
    | (?P<group>[{}]|<<|>>)
    | (?P<operator>[<>!]=|\*\*|[*/^<>!_|&@\\]
        |[\u00b1\u2030\u2213\u221a-\u221c\u2260-\u226f\u2308-\u230b])
    | (?P<equals>=+>?|-{1,9}>|\u2248|~)
    | (?P<sign>[-+])
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<currency>\p)
    | (?P<unit>[%\u00b0'"\u00a2])
    | (?P<point>[.,;:])
    | (?P<space>\s+)
    | (?P<other>.)
    """.replace(r"\p", "[$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd\u20bf\u20ba\u20aa]"),
    re.VERBOSE | re.DOTALL,
)
_ANNOTATION = re.compile(r"<<([^<>\n]{0,500})>>(?=\s{0,3}[-+$\\]?\s{0,3}(?P<number>[0-9.])?)")

# A row of a table: bars with space beside them. No cell of it begins with a sign, for that of
# "| -5 |" may be an absolute value.
_ROW = re.compile(r"^(?![^\n]*\|[ \t]*[-+])[ \t]{0,9}\|(?=[ \t])[^\n]*[ \t]\|[ \t]*$", re.MULTILINE)


class Token(NamedTuple):
    """kind: the name of its group in the pattern. text: as written. start: where it stands."""

    kind: str
    text: str
    start: int
    spaced: bool  # white space stands before it
    new_line: bool  # and a line break is part of it


def tokens_of(text: str) -> list[Token]:
    """The tokens of a text in plain characters, white space and braces left out."""
    text = plain_text(text)
    # "<<24*3=72>>72" says the value twice: once inside, once behind.
    text = _ANNOTATION.sub(lambda match: "" if match["number"] else f" {match[1]} ", text)
    if "|" in text:
        text = _ROW.sub(lambda match: match[0].replace("|", ";"), text)
    tokens: list[Token] = []
    spaced = new_line = False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind == "space":
            spaced, new_line = True, new_line or "\n" in match[0]
        elif kind != "group":
            tokens.append(Token(kind, match[0], match.start(), spaced, new_line))
            spaced = new_line = False
    return tokens
