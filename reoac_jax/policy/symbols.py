"""The symbols of a row one beside the other, and the numbers that they make.

Written for one row and `vmap`ped; `N` symbols. One loop runs over them, that of `evaluated`;
everything else looks at all symbols at once.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.policy.residues import Fraction, Residues, plus, times
from reoac_jax.tasks.equation_notation import Kind, Symbols

_UNROLL = 1  # symbols that a turn of the loop reads: few, for it is compiled with every rollout


class Line(NamedTuple):
    """The symbols of a text in order, white space and what adds nothing left out, `[N]` each.

    The first is a symbol that stands before the text, the last ones are `STOP`. There is room for
    a quarter more symbols than tokens; a text of more is cut off there.

    kind: int32, a `Kind`. value, scale: `Residues`, as in `Symbols`.
    number: bool, it is part of a number: digits, a point beside them, and a comma that parts
    thousands. first, last: bool, the number begins with it, ends with it.
    """

    kind: jax.Array
    value: Residues
    scale: Residues
    number: jax.Array
    first: jax.Array
    last: jax.Array
    points: jax.Array

    def are(self, *kinds: Kind) -> jax.Array:
        """bool `[N]`: which symbols are of one of these kinds."""
        found = self.kind == kinds[0]
        for kind in kinds[1:]:
            found |= self.kind == kind
        return found


def line_of(
    tokens: jax.Array,
    table: Symbols,
    before: Kind,
    grouped: bool,
    real: jax.Array | None = None,
) -> Line:
    """The line of a row's tokens, int32 `[G]`.

    before: the symbol that stands before the text. grouped: commas may part thousands. real: bool
    `[G]`, tokens that count; None: all.
    """
    width = table.kind.shape[1]

    def looked_up(column: Any, dtype: Any) -> jax.Array:
        found = jnp.asarray(column)[tokens]
        return found.reshape(-1, *found.shape[2:]).astype(dtype)

    kind = looked_up(table.kind, jnp.int32)
    if real is not None:
        kind = jnp.where(jnp.repeat(real, width), kind, Kind.NOTHING)
    blank = (kind == Kind.BLANK) | looked_up(table.spaced, bool)
    ended = running(kind == Kind.STOP) > 0
    solid = (kind != Kind.NOTHING) & (kind != Kind.BLANK) & ~ended
    # Few tokens hold several symbols.
    places, there = slots(solid, min(len(solid), len(tokens) + len(tokens) // 4 + 8))

    def packed(x: jax.Array, start: int, end: int) -> jax.Array:
        found = jnp.where(there, x[places], end)
        return jnp.concatenate([jnp.full(1, start, x.dtype), found, jnp.full(1, end, x.dtype)])

    def residues(column: Any) -> Residues:
        both = looked_up(column, jnp.uint32)
        return packed(both[:, 0], 0, 0), packed(both[:, 1], 0, 0)

    kind = packed(kind, before, Kind.STOP)
    blanks = packed(running(blank), -1, -1)
    length = packed(looked_up(table.length, jnp.int32), 0, 0)
    beside = blanks == shifted(blanks, 1, -2)
    is_digits, is_point = kind == Kind.DIGITS, kind == Kind.POINT
    next_to_digits = shifted(is_digits & beside & (length == 3), -1, False)
    thousands = (kind == Kind.COMMA) & beside & shifted(is_digits, 1, False) & next_to_digits
    thousands &= grouped
    number = is_digits | is_point | thousands
    goes_on = number & beside & shifted(number, 1, False)
    first = number & ~goes_on
    points = running(is_point)
    return Line(
        kind=_with_marks(kind, beside, length),
        value=residues(table.value),
        scale=residues(table.scale),
        number=number,
        first=first,
        last=number & ~shifted(goes_on, -1, False),
        points=points - (points - is_point)[latest(first)],
    )


def _with_marks(kind: jax.Array, beside: jax.Array, length: jax.Array) -> jax.Array:
    """The kinds `[N]`, where four hashes or more stand side by side the last one a `MARK`."""
    hashes = kind == Kind.HASH
    goes_on = hashes & beside & shifted(hashes, 1, False)
    total = jnp.cumsum(jnp.where(hashes, length, 0))
    here = total - shifted(total, 1, 0)[latest(hashes & ~goes_on)]
    return jnp.where(hashes & ~shifted(goes_on, -1, False) & (here >= 4), Kind.MARK, kind)


class Moves(NamedTuple):
    """What each symbol does to the expression that it stands in, bool `[N]`.

    begins: an expression begins behind it. opens, closes, percent: a bracket, a percent sign.
    term, minus: a plus or minus between two operands; a minus.
    factor: an operand ends with it. divides, negates: that divides, or has a minus before it; for
    the latter at an opening bracket.
    """

    begins: jax.Array
    opens: jax.Array
    closes: jax.Array
    percent: jax.Array
    term: jax.Array
    minus: jax.Array
    factor: jax.Array
    divides: jax.Array
    negates: jax.Array


class _Sum(NamedTuple):
    """total: of the terms that are complete. product: of the factors of the last one."""

    total: Fraction
    product: Fraction


def evaluated(line: Line, moves: Moves | None = None) -> tuple[Fraction, Fraction]:
    """The values of numbers and of expressions, `Fraction` `[N]` each.

    The first at the last symbol of each number; the second at each symbol what the expression is
    worth that ends in front of it (a denominator of 0 where it divides by 0). Elsewhere both are of
    no meaning. moves: None where numbers alone are asked about.
    """
    is_digits = line.kind == Kind.DIGITS
    decimal = is_digits & (line.points > 0)
    nothing, one = Fraction.whole(0), Fraction.whole(1)
    blank = _Sum(nothing, one)

    def turn(
        state: tuple[Fraction, _Sum, _Sum], at: tuple[Any, ...]
    ) -> tuple[tuple[Fraction, _Sum, _Sum], tuple[Fraction, Fraction]]:
        number, inner, outer = state
        first, is_digits, decimal, value, scale, move = at
        number = choose(first, nothing, number)
        longer = Fraction(
            plus(times(number.num, scale), value),
            choose(decimal, times(number.den, scale), number.den),
        )
        number = choose(is_digits, longer, number)
        worth = inner.total.plus(inner.product)
        if move is None:
            return (number, inner, outer), (number, worth)
        factor = choose(move.negates, number.negated, number)
        factor = choose(
            move.closes, worth, choose(move.percent, Fraction.whole(100).inverse, factor)
        )
        base = choose(move.closes, outer, inner)
        product = base.product.by(choose(move.divides, factor.inverse, factor))
        further = choose(move.factor, _Sum(base.total, product), inner)
        further = choose(move.term, _Sum(worth, choose(move.minus, one.negated, one)), further)
        around = choose(move.negates, inner.product.negated, inner.product)
        outer = choose(move.opens, _Sum(inner.total, around), outer)
        further = choose(move.begins | move.opens, blank, further)
        return (number, further, outer), (number, worth)

    inputs = (line.first, is_digits, decimal, line.value, line.scale, moves)
    _, (numbers, worths) = jax.lax.scan(turn, (nothing, blank, blank), inputs, unroll=_UNROLL)
    return numbers, worths


def choose(where: jax.Array, new: Any, old: Any) -> Any:
    """Pytree: `new` where bool `[...]` holds, else `old`."""
    return jax.tree.map(lambda x, y: jnp.where(where, x, y), new, old)


def shifted(x: jax.Array, by: int, fill: int | bool) -> jax.Array:
    """`[N]`, moved to the right, or by a negative number to the left."""
    rolled, place = jnp.roll(x, by), jnp.arange(x.shape[0])
    return jnp.where((place >= by) & (place < x.shape[0] + by), rolled, fill)


def latest(where: jax.Array) -> jax.Array:
    """int32 `[N]`: the last place, at or before each, in bool `[N]`; 0 where there is none.

    As all that is counted along a line by comparing all pairs: a row is short, and a running
    maximum is compiled to a program of its own length.
    """
    place = jnp.arange(where.shape[0], dtype=jnp.int32)
    return jnp.where(where & (place <= place[:, None]), place, 0).max(axis=1)


def running(counted: jax.Array) -> jax.Array:
    """int32 `[N]`: how many in bool `[N]` stand at or before each place."""
    place = jnp.arange(counted.shape[0])
    return (counted & (place <= place[:, None])).sum(axis=1)


def slots(where: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The first `count` places in bool `[N]`, int32 `[count]`, and bool, whether there are so many.

    By comparison and not by sorting, which takes longer for the few that there are.
    """
    rank = running(where) - 1
    here = where & (rank == jnp.arange(count)[:, None])
    places = jnp.where(here, jnp.arange(where.shape[0], dtype=jnp.int32), 0).sum(axis=1)
    return places, here.any(axis=1)


def at(values: Any, places: jax.Array) -> Any:
    """Pytree `[N]` at these places."""
    return jax.tree.map(lambda x: x[places], values)
