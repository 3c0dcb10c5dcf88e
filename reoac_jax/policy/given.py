"""What a prompt gives: its numbers, and the result that it asks for where it says so.

Read on the devices, once a row. Nothing but the prompt's tokens is known here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.policy.residues import Fraction
from reoac_jax.policy.symbols import Line, at, evaluated, latest, line_of, running, shifted, slots
from reoac_jax.tasks.equation_notation import EquationNotation, Kind, Symbols

_MOST_NUMBERS = 16  # of a prompt that are looked at; GSM8K's questions have 15 at most


class Given(NamedTuple):
    """Of one prompt, with `K` places for numbers; those beyond are left out.

    numbers: `Fraction` `[K]`. there: bool `[K]`, which places are taken.
    target: `Fraction` `[]`, what the last equation must reach. asked: bool `[]`, whether the prompt
    says that, in the form that the notation has for it.
    """

    numbers: Fraction
    there: jax.Array
    target: Fraction
    asked: jax.Array


def read_prompt(
    tokens: jax.Array, length: jax.Array, table: Symbols, notation: EquationNotation
) -> Given:
    """What a prompt gives: tokens int32 `[P]`, length int32 `[]`."""
    real = jnp.arange(tokens.shape[0]) < length
    line = line_of(tokens, table, Kind.OTHER, not notation.states_target, real)
    values, _ = evaluated(line)
    target, asked, given = jnp.int32(0), jnp.zeros((), bool), line.last
    if notation.states_target:
        target, asked, given = _statement(line)
    places, there = slots(given, _MOST_NUMBERS)
    return Given(at(values, places), there, at(values, target), asked)


def _statement(line: Line) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The last `3 7 12 = 33 ?`: where the result stands, whether there is one, and bool `[N]`, the
    numbers before it."""
    place = jnp.arange(line.kind.shape[0])
    numbers, points = running(line.first), running(line.are(Kind.POINT))
    # The last symbol before each that belongs to no number.
    border = shifted(latest(~line.number), 1, 0)

    def between(counts: jax.Array) -> jax.Array:
        return shifted(counts, 1, 0) - counts[border]

    whole = between(points) == 0
    states = line.are(Kind.EQUALS) & whole & (between(numbers) >= 2)
    asks = line.are(Kind.QUESTION) & whole & (between(numbers) == 1) & states[border]
    question = latest(asks)[-1]
    equals = border[question]
    asked = asks[question]
    return question - 1, asked, line.last & asked & (place > border[equals]) & (place < equals)
