"""How a task's answers write equations, and the symbols of it that each token holds.

This is what may be known of a text without its problem's answer, in a form that a compiled loop can
read (`policy/notation.py`): a task declares its notation, and a table says of every token which
numbers, signs and marks stand in it.
"""

import dataclasses
import enum
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from reoac_jax.tasks.notation import plain_text

if TYPE_CHECKING:  # a worker that grades imports no JAX
    import jax

# Numbers are known by their residues: two fractions are equal where these say so, but for one pair
# in four thousand million, however many digits they have. The largest primes whose products fit 32
# bits.
PRIMES = (65521, 65519)
_MOST_SYMBOLS = 4  # of a token; what holds more is no notation


@dataclasses.dataclass(frozen=True)
class EquationNotation:
    """What a task's prompts and answers say in equations.

    annotated: an equation stands between `<<` and `>>`, with any text around it, and the answer
    behind `####`. Otherwise the text is nothing but equations, each of two numbers and a sign,
    joined by `,` and closed by `;` (which may be missing).
    states_target: the prompt ends with `3 7 12 = 33 ?`: numbers that must be used once each, and
    the result that the last equation must reach. Otherwise every number of the prompt is given, may
    be used or not, and the answer must be the last equation's result.
    """

    annotated: bool
    states_target: bool


class Kind(enum.IntEnum):
    """What a symbol is."""

    NOTHING = 0  # a token that adds nothing to the text, or the rest of a token's places
    BLANK = 1
    DIGITS = 2
    POINT = 3
    PLUS = 4
    MINUS = 5
    TIMES = 6
    OVER = 7
    OPEN = 8
    CLOSE = 9
    PERCENT = 10
    EQUALS = 11
    COMMA = 12
    SEMICOLON = 13
    QUESTION = 14
    BEGIN = 15  # <<
    END = 16  # >>
    ANGLE = 17  # a single < or >
    HASH = 18  # one # or more
    MARK = 19  # the last of four: tokenizers part "####"
    OTHER = 20
    HOLE = 21  # the mask
    STOP = 22  # ends the text


_SIGNS = {
    ".": Kind.POINT, "+": Kind.PLUS, "-": Kind.MINUS, "*": Kind.TIMES, "/": Kind.OVER,
    "(": Kind.OPEN, ")": Kind.CLOSE, "%": Kind.PERCENT, "=": Kind.EQUALS, ",": Kind.COMMA,
    ";": Kind.SEMICOLON, "?": Kind.QUESTION, "<": Kind.ANGLE, ">": Kind.ANGLE,
}  # fmt: skip
_SYMBOL = re.compile(
    r"(?P<BLANK>\s+)|(?P<DIGITS>[0-9]+)|(?P<BEGIN><{2,})|(?P<END>>{2,})|(?P<HASH>#+)"
    r"|(?P<SIGN>[-.+*/()%=,;?<>])|(?P<OTHER>[^\W\d_]\w*|.)",
    re.DOTALL,
)


class Symbols(NamedTuple):
    """The symbols of each token in order, `[V, S]`; those of `S` that a token lacks are `NOTHING`.

    kind: uint8, a `Kind`. spaced: bool, white space stands before it in the token.
    length: uint8, how many digits it has, or hashes. value, scale: uint16 `[V, S, 2]`, the number
    that digits make and 10 to the power of their count, modulo `PRIMES`.
    """

    kind: "jax.Array | np.ndarray"
    spaced: "jax.Array | np.ndarray"
    length: "jax.Array | np.ndarray"
    value: "jax.Array | np.ndarray"
    scale: "jax.Array | np.ndarray"


def build_symbols(
    pieces: Sequence[str], special: np.ndarray, ends: np.ndarray, mask_id: int
) -> Symbols:
    """The table of a vocabulary, as NumPy arrays.

    Args:
      pieces: what each token adds to a text that goes before it, its own leading space included.
      special: bool `[V]`, tokens that add nothing. ends: bool `[V]`, those that end a text.
      mask_id: the model's mask.
    """
    found = [_symbols_of(piece) for piece in pieces]
    width = max(1, *map(len, found))
    shape = (len(pieces), width)
    table = Symbols(
        kind=np.zeros(shape, np.uint8),
        spaced=np.zeros(shape, bool),
        length=np.zeros(shape, np.uint8),
        value=np.zeros((*shape, 2), np.uint16),
        scale=np.ones((*shape, 2), np.uint16),
    )
    for token, symbols in enumerate(found):
        for place, (kind, spaced, text) in enumerate(symbols):
            table.kind[token, place], table.spaced[token, place] = kind, spaced
            table.length[token, place] = min(len(text), 255)
            if kind == Kind.DIGITS:
                table.value[token, place] = [int(text) % prime for prime in PRIMES]
                table.scale[token, place] = [pow(10, len(text), prime) for prime in PRIMES]
    table.kind[special] = Kind.NOTHING
    for where, kind in ((ends, Kind.STOP), (mask_id, Kind.HOLE)):
        table.kind[where] = Kind.NOTHING
        table.kind[where, 0] = kind
    return table


def _symbols_of(piece: str) -> list[tuple[Kind, bool, str]]:
    """Kind, whether white space stands before it, and text, of each symbol of a token's text."""
    if not piece.isascii():
        # One by one: of several together a sentence's marks may be read as one thing.
        piece = "".join(plain_text(character) or character for character in piece)
    symbols: list[tuple[Kind, bool, str]] = []
    spaced = False
    for match in _SYMBOL.finditer(piece):
        name, text = match.lastgroup, match[0]
        if name == "BLANK":
            spaced = True
            continue
        kind = _SIGNS[text] if name == "SIGN" else Kind[str(name)]
        symbols.append((kind, spaced, text))
        spaced = False
    if spaced:
        symbols.append((Kind.BLANK, False, ""))
    if len(symbols) > _MOST_SYMBOLS:
        return [(Kind.OTHER, symbols[0][1], "")]
    return symbols
