"""Final numbers: what is found in a text and what it is worth."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reoac_jax.tasks.answers import final_answer, has_final_answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 72", "72"),
        ("####72", "72"),
        ("<<48/2=24>> <<48+24=72>> #### 72", "72"),
        ("<< 48 / 2 = 24 >> #### 24", "24"),  # as a word-level tokenizer decodes it
        ("first #### 5 then #### 7 apples", "7"),
        ("#### 7 apples at 3 dollars", "7"),
        ("The answer is 12. He had 5 before #### 9", "9"),
        ("#### ", None),
        ("it is 8 ####", "8"),
        ("so he has 12 apples and 3 pears", "3"),
        ("#### 1,080", "1080"),
        ("#### $1,575,000", "1575000"),
        ("#### -$5", "-5"),
        ("#### $-5", "-5"),
        ("#### - 5", "-5"),
        ("#### \u22125", "-5"),
        ("#### +5", "5"),
        ("#### \\$18.50", "37/2"),
        ("#### 50%", "50"),
        ("#### .5 cup", "1/2"),
        ("#### 0.25", "1/4"),
        ("#### 3/4", "3/4"),
        ("#### -3/4", "-3/4"),
        ("#### 3 / 4", "3/4"),
        ("#### 1 1/2 hours", "3/2"),
        ("#### 72.", "72"),
        ("#### 5kg", "5"),
        ("12-5", "5"),
        ("x = -5", "-5"),
        ("(12)-5", "5"),
        ("1/0", None),
        ("", None),
        ("no number at all", None),
        ("9" * 5000, None),
    ],
)
def test_final_answer(text, value):
    found = final_answer(text)
    assert (None if found is None else found.value) == (None if value is None else Fraction(value))


def test_has_final_answer():
    assert has_final_answer("#### 7") and not has_final_answer("7 ####")
    assert not has_final_answer("7")


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{}", "${}", "{} dollars", "{}%", "{:,}"]))
def test_every_integer_in_every_dress(number, dress):
    assert final_answer(f"12 + 3 = 15 #### {dress.format(number)}").value == number


@given(st.text(alphabet="0123456789.,/$%-+# ab\u2212\\", max_size=60))
def test_any_text_is_read_without_a_crash(text):
    found = final_answer(text)
    assert found is None or isinstance(found.value, Fraction)
    assert has_final_answer(text) <= (found is not None)
