"""Fractions of any size in 32 bits: each is known by its residues modulo two primes.

Sums, products and quotients are exact, and two fractions are taken for equal where their residues
are: always if they are, and otherwise for one pair in four thousand million. No step overflows,
and division needs no inverse: a fraction is a numerator and a denominator.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reoac_jax.tasks.equation_notation import PRIMES

# One array for each of `PRIMES`, uint32 `[...]`: side by side in one they would be slower.
Residues = tuple[jax.Array, jax.Array]


class Fraction(NamedTuple):
    """A numerator and a denominator."""

    num: Residues
    den: Residues

    @classmethod
    def whole(cls, number: int, shape: tuple[int, ...] = ()) -> "Fraction":
        """A whole number, once for each entry of `shape`."""
        first, second = (jnp.full(shape, number % prime, jnp.uint32) for prime in PRIMES)
        one = jnp.ones(shape, jnp.uint32)
        return cls((first, second), (one, one))

    def plus(self, other: "Fraction") -> "Fraction":
        crossed = plus(times(self.num, other.den), times(other.num, self.den))
        return Fraction(crossed, times(self.den, other.den))

    def by(self, other: "Fraction") -> "Fraction":
        return Fraction(times(self.num, other.num), times(self.den, other.den))

    @property
    def inverse(self) -> "Fraction":
        return Fraction(self.den, self.num)

    @property
    def negated(self) -> "Fraction":
        first, second = ((prime - x) % prime for x, prime in _each(self.num))
        return Fraction((first, second), self.den)

    @property
    def is_zero(self) -> jax.Array:
        """bool `[...]`; a fraction by 0 is one whose inverse is."""
        return (self.num[0] == 0) & (self.num[1] == 0)

    def equals(self, other: "Fraction") -> jax.Array:
        """bool `[...]`."""
        ours, theirs = times(self.num, other.den), times(other.num, self.den)
        return (ours[0] == theirs[0]) & (ours[1] == theirs[1])


def plus(x: Residues, y: Residues) -> Residues:
    """The sum of residues."""
    first, second = ((a + b) % prime for a, b, prime in _each(x, y))
    return first, second


def times(x: Residues, y: Residues) -> Residues:
    """The product of residues."""
    first, second = (a * b % prime for a, b, prime in _each(x, y))
    return first, second


def _each(*residues: Residues) -> Iterator[tuple[Any, ...]]:
    """Those of each prime, and the prime."""
    return zip(*residues, map(np.uint32, PRIMES), strict=True)
