"""Exact evaluation of written arithmetic by a small parser; nothing is ever handed to `eval`."""

import re
from fractions import Fraction

from reoac_jax.tasks.notation import plain_text

_LONGEST = 500  # characters; longer expressions are refused, which also bounds the numbers' size
_DEEPEST = 30  # nested parentheses and signs
_TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)|([-+*/()%]))")
_ANNOTATION = re.compile(r"<<\s*([^<>]*?)\s*>>")


def evaluate(expression: str) -> Fraction:
    """The exact value of an expression of decimals, `+ - * /`, parentheses and `n%` (n/100).

    Digits, minus and times signs of any script count (`notation.plain_text`).

    Raises `ValueError` where the expression is malformed, too long, too deep, or divides by zero.
    """
    if len(expression) > _LONGEST:
        raise ValueError(f"more than {_LONGEST} characters")
    parser = _Parser(_tokens(plain_text(expression)))
    value = parser.sum(0)
    if parser.next is not None:
        raise ValueError(f"unexpected {parser.next!r}")
    return value


def equation_holds(equation: str) -> bool:
    """Whether `equation` is `expression = expression [= ...]` with all sides exactly equal."""
    sides = equation.split("=")
    if len(sides) < 2:
        return False
    try:
        values = [evaluate(side) for side in sides]
    except ValueError:
        return False
    return all(value == values[0] for value in values)


def annotations(text: str) -> list[str]:
    """The calculator annotations `<<...>>` of a text, without their marks, in order."""
    return _ANNOTATION.findall(text)


def _tokens(expression: str) -> list[str]:
    tokens, position, expression = [], 0, expression.strip()
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise ValueError(f"unexpected {expression[position]!r}")
        tokens.append(match[1] or match[2])
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent: sum > product > signed > atom."""

    def __init__(self, tokens: list[str]):
        self._tokens = tokens
        self._position = 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _take(self) -> str:
        token = self.next
        if token is None:
            raise ValueError("unexpected end")
        self._position += 1
        return token

    def sum(self, depth: int) -> Fraction:
        value = self._product(depth)
        while self.next in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            value += sign * self._product(depth)
        return value

    def _product(self, depth: int) -> Fraction:
        value = self._signed(depth)
        while self.next in ("*", "/"):
            if self._take() == "*":
                value *= self._signed(depth)
                continue
            divisor = self._signed(depth)
            if divisor == 0:
                raise ValueError("division by zero")
            value /= divisor
        return value

    def _signed(self, depth: int) -> Fraction:
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST}")
        if self.next in ("+", "-"):
            sign = 1 if self._take() == "+" else -1
            return sign * self._signed(depth + 1)
        value = self._atom(depth)
        while self.next == "%":
            self._take()
            value /= 100
        return value

    def _atom(self, depth: int) -> Fraction:
        token = self._take()
        if token == "(":
            value = self.sum(depth + 1)
            if self._take() != ")":
                raise ValueError("unclosed parenthesis")
            return value
        if token in "+-*/)%":
            raise ValueError(f"unexpected {token!r}")
        return Fraction(token)
