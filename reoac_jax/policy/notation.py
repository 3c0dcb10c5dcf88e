"""What a row says in its task's own notation, read on the devices (DESIGN.md, section 6).

The prompt and the row are all that is known: no reference, no answer. `checks` is what the task's
own check (`Task.checks`) would say of a text in the form that answers have. Written for one row and
`vmap`ped; `G` generated positions, `N` symbols.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.policy.given import Given
from reoac_jax.policy.residues import Fraction
from reoac_jax.policy.symbols import (
    Line,
    Moves,
    at,
    choose,
    evaluated,
    latest,
    line_of,
    running,
    shifted,
    slots,
)
from reoac_jax.tasks.equation_notation import EquationNotation, Kind, Symbols

_MOST_EQUATIONS = 16  # of a text that are remembered
_OF_A_TEXT = (
    "equations",
    "formed_share",
    "true_share",
    "has_false",
    "known_share",
    "given_used",
    "reaches",
    "checks",
)
NOTATION_FEATURES = (
    *(f"written_{name}" for name in _OF_A_TEXT),
    *(f"filled_{name}" for name in _OF_A_TEXT),
)


def notation_features(
    tokens: jax.Array,
    filled: jax.Array,
    given: Given,
    table: Symbols,
    notation: EquationNotation,
) -> jax.Array:
    """What the row says as it stands and filled in, in the order of `NOTATION_FEATURES`.

    Of each: n / (n + 1) of its n equations that end without a mask in them; the shares of those
    begun that are well-formed and that are true; whether one that has ended does not hold; the
    share of their operands that are numbers of the prompt or results of equations before, each
    counted once where it may be used once; the share of the prompt's numbers that are operands;
    whether the last result is what the prompt asks for, or what the answer states; whether all is
    as it should be. A share of nothing is 0.

    Args:
      tokens: int32 `[G]`, masks included. filled: int32 `[G]`, with what is proposed there.
      given: of the prompt. table: of the vocabulary.

    Returns:
      float32 `[16]`.
    """
    texts = jnp.stack([tokens, filled])
    return jax.vmap(lambda text: _of_text(text, given, table, notation))(texts).reshape(-1)


def _of_text(
    tokens: jax.Array, given: Given, table: Symbols, notation: EquationNotation
) -> jax.Array:
    line = line_of(tokens, table, Kind.OTHER, notation.annotated)
    written = _parsed(line, notation)
    operands, known, used = _sources(written, given, notation)
    last = jnp.where(written.closed, jnp.arange(len(line.kind)), 0).max()
    result = at(written.worth, last)
    right = ~line.are(Kind.HOLE).any() & written.closed.any()
    right &= (written.begun == written.closed.sum()) & (written.true == written.closed).all()
    if notation.annotated:
        answer, stated, alone = _answer(line, written)
        reaches = stated & answer.equals(result)
        right &= alone & written.ends_in_number[last]
    else:
        reaches = jnp.ones((), bool)
        right &= written.is_clean
    if notation.states_target:
        reaches &= given.asked & result.equals(given.target)
        # So that every number is used: nothing else is left for the last operands.
        right &= (known == operands) & (written.closed.sum() == given.there.sum() - 1)
    reaches &= written.formed[last]
    values = [
        written.closed.sum() / (written.closed.sum() + 1),
        _share(written.formed.sum(), written.begun),
        _share(written.true.sum(), written.begun),
        (written.closed & ~written.true).any(),
        _share(known, operands),
        _share(used, given.there.sum()),
        reaches,
        reaches & right,
    ]
    return jnp.stack([jnp.asarray(value, jnp.float32) for value in values])


class _Written(NamedTuple):
    """The equations of a text; bool `[N]` unless said otherwise.

    begun: int32 `[]`, how many begin. closed: one ends here, without a mask in it; formed: it is
    well-formed; true: and all its sides are equal. ends_in_number: its last side is a number.
    is_clean: bool `[]`, the text is nothing but equations. inside: within one.
    operand: a number on the left of one ends here. number, worth: `Fraction` `[N]`, the number with
    its sign, and what the expression is worth that ends in front of each symbol.
    """

    begun: jax.Array
    closed: jax.Array
    formed: jax.Array
    true: jax.Array
    ends_in_number: jax.Array
    is_clean: jax.Array
    inside: jax.Array
    operand: jax.Array
    number: Fraction
    worth: Fraction


def _parsed(line: Line, notation: EquationNotation) -> _Written:
    """The grammar is one of neighbours: which symbol may stand behind which.

    That of `tasks/equations.py`, but for brackets within brackets and a second sign before an
    operand: with these an equation is not well-formed.
    """
    are, place = line.are, jnp.arange(line.kind.shape[0])
    hole, stop = are(Kind.HOLE), are(Kind.STOP)
    equals, opens, closes = are(Kind.EQUALS), are(Kind.OPEN), are(Kind.CLOSE)
    percent, signs, products = (
        are(Kind.PERCENT), are(Kind.PLUS, Kind.MINUS), are(Kind.TIMES, Kind.OVER),
    )  # fmt: skip
    if notation.annotated:
        starts, borders = are(Kind.BEGIN), are(Kind.BEGIN, Kind.END, Kind.ANGLE)
    else:
        starts = borders = are(Kind.COMMA) | (place == 0)
    border = shifted(latest(borders), 1, 0)
    between = (place > border[:, None]) & (place < place[:, None])

    def since(counted: jax.Array) -> jax.Array:
        """int32 `[N]`: how many of these stand between each symbol and the border before it."""
        return (counted & between).sum(axis=1)

    inside = starts[border] & (place > 0)
    if notation.annotated:
        ends = are(Kind.END) & inside
    else:
        inside &= shifted(running(are(Kind.SEMICOLON)), 1, 0) == 0
        first_stop = stop & ~shifted(stop, 1, False)
        ends = (are(Kind.COMMA, Kind.SEMICOLON) | first_stop) & inside

    operand = line.last | closes | percent
    behind_operand = shifted(operand, 1, False)
    unary = signs & ~behind_operand
    behind_unary, before = shifted(unary, 1, False), shifted(line.kind, 1, 0)
    negates = behind_unary & (before == Kind.MINUS)
    divides = jnp.where(behind_unary, shifted(line.kind, 2, 0), before) == Kind.OVER
    # Both at the first symbol of an operand; what they do, they do at its last one.
    first = jnp.where(closes, latest(opens), latest(line.first))
    divides = divides[first]
    negative = line.last & negates[first]
    moves = Moves(
        begins=starts | equals | ends,
        opens=opens,
        closes=closes,
        percent=percent,
        term=signs & behind_operand,
        minus=are(Kind.MINUS),
        factor=operand,
        divides=jnp.where(percent, shifted(divides, 1, False), divides),
        negates=jnp.where(opens, negates, negative),
    )
    number, worth = evaluated(line, moves)

    depth, sides = since(opens) - since(closes), since(equals)
    known = line.number | signs | products | equals | opens | closes | percent | hole
    no_number = worth.inverse.is_zero  # divided by 0
    bad = ~known | ((line.first | opens) & behind_operand) | (unary & behind_unary)
    bad |= (products | equals | closes | percent) & ~behind_operand
    bad |= (opens & (depth > 0)) | (closes & (depth < 1)) | (equals & ((depth > 0) | no_number))
    bad |= percent & (before == Kind.PERCENT)
    # "5.", "1.2.3", "1,000"
    bad |= (line.last & are(Kind.POINT)) | (line.points > 1) | (line.number & are(Kind.COMMA))
    side = shifted(latest(equals | borders), 1, 0)
    unequal = (sides > 0) & ~worth.equals(at(worth, side))

    def on_side(counted: jax.Array) -> jax.Array:
        """int32 `[N]`: of what is counted since the border, the present side's."""
        return counted - jnp.where(sides > 0, counted[side], 0)

    numbers, more = since(line.first), since(opens | percent | (unary & are(Kind.PLUS)))
    ends_in_number = (on_side(numbers) == 1) & (on_side(more) == 0)
    begun = starts if notation.annotated else ends & (since(~hole) > 0)
    closed = ends & (since(hole) == 0)
    formed = closed & (since(bad) == 0) & behind_operand & (depth == 0) & (sides > 0) & ~no_number
    beyond = jnp.zeros_like(inside)
    if not notation.annotated:  # `a + b = c`, and behind the last one nothing
        formed &= ends_in_number & (sides == 1) & (numbers == 3) & (more == 0)
        closed &= begun
        beyond = ~inside & ~stop & (place > 0)
    return _Written(
        begun=begun.sum(),
        closed=closed,
        formed=formed,
        true=formed & ~unequal & (since(equals & unequal) == 0),
        ends_in_number=ends_in_number,
        is_clean=~((ends & ~formed) | beyond).any(),
        inside=inside,
        operand=line.last & inside & (sides == 0),
        number=choose(negative, number.negated, number),
        worth=worth,
    )


def _sources(
    written: _Written, given: Given, notation: EquationNotation
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """int32 `[]` each: operands, those that come from somewhere, the prompt's numbers among them.

    An operand comes from the prompt or from an equation that stands before it. What may be used
    once is there for the first that take it.
    """
    gives = written.true if notation.states_target else written.formed
    places, there = slots(written.operand, 2 * _MOST_EQUATIONS)
    results, reached = slots(gives, _MOST_EQUATIONS)
    operands = at(written.number, places)
    from_results = _same(operands, at(written.worth, results)) & there[:, None] & reached
    from_results &= results < places[:, None]
    from_given = _same(operands, given.numbers) & there[:, None] & given.there
    supply = from_results.sum(axis=1) + from_given.sum(axis=1)
    demand, rank = there.astype(jnp.int32), jnp.ones_like(given.there, jnp.int32)
    if notation.states_target:
        demand = (jnp.tril(_same(operands, operands)) & there).sum(axis=1)
        rank = (jnp.tril(_same(given.numbers, given.numbers)) & given.there).sum(axis=1)
    used = given.there & (rank <= from_given.sum(axis=0))
    return there.sum(), (there & (demand <= supply)).sum(), used.sum()


def _same(some: Fraction, others: Fraction) -> jax.Array:
    """bool `[M, N]`: which of `some` `[M]` is equal to which of `others` `[N]`."""
    column = jax.tree.map(lambda x: x[:, None], some)
    return column.equals(others)


def _answer(line: Line, written: _Written) -> tuple[Fraction, jax.Array, jax.Array]:
    """The first number behind the answer's last mark, whether there is one, and whether nothing
    else stands there."""
    place = jnp.arange(line.kind.shape[0])
    mark = jnp.where(line.are(Kind.MARK) & ~written.inside, place, 0).max()
    behind = place > mark
    number = line.last & behind
    end = jnp.argmax(number)
    minus = line.are(Kind.MINUS) & (place == mark + 1) & (place == latest(line.first)[end] - 1)
    alone = ~(behind & ~(line.number | minus | line.are(Kind.STOP))).any()
    alone &= (number.sum() == 1) & (line.points[end] < 2)
    return at(written.number, end), (mark > 0) & number.any(), alone


def _share(some: jax.Array, of: jax.Array) -> jax.Array:
    """float32 `[]`; 0 of nothing."""
    return some / jnp.maximum(of, 1).astype(jnp.float32)
