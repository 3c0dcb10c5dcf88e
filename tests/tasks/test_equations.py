"""Exact evaluation, against values computed while the expression is built."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reoac_jax.tasks.equations import annotations, equation_holds, evaluate

_leaves = st.tuples(st.integers(0, 999), st.integers(0, 99)).map(
    lambda parts: (f"{parts[0]}.{parts[1]:02d}", Fraction(parts[0] * 100 + parts[1], 100))
)


def _combine(children):
    def join(pieces):
        (left, a), sign, (right, b) = pieces
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]
        return f"({left}){sign} ({right})", value

    pairs = st.tuples(children, st.sampled_from("+-*/"), children).map(join)
    return pairs.filter(lambda pair: pair[1] is not None)


@given(st.recursive(_leaves, _combine, max_leaves=8))
def test_evaluate_equals_the_value_it_was_built_from(pair):
    text, value = pair
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", "14"),
        ("20-5-3", "12"),
        ("48/4/3", "4"),
        ("2*-3", "-6"),
        ("--5", "5"),
        ("100*20%", "20"),
        (" 1 / 3 ", "1/3"),
        (".5*4", "2"),
    ],
)
def test_precedence_and_signs(text, value):
    assert evaluate(text) == Fraction(value)


@pytest.mark.parametrize(
    "text",
    ["", "1/0", "2**3", "2+", "(2", "2)", "x", "1 2", "__import__('os')", "(" * 99 + "1" + ")" * 99,
     "-" * 99 + "1", "9*" * 400 + "9", "1.2.3", "9" * 9000],
)  # fmt: skip
def test_malformed_expressions_raise(text):
    with pytest.raises(ValueError):
        evaluate(text)


def test_equations_and_annotations():
    assert equation_holds("48/2=24") and equation_holds("3*4=12=24/2")
    assert not equation_holds("1/3=0.33") and not equation_holds("5") and not equation_holds("5=")
    assert annotations("a <<1+1=2>>2 b << 2 * 3 = 6 >> <<") == ["1+1=2", "2 * 3 = 6"]
