"""Final numbers: what is found in a text and what it is worth."""

import json
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reoac_jax.tasks.answers import final_answer, has_final_answer, target_answer

_CASES = Path(__file__).parent / "cases"


def _cases(name):
    return [json.loads(line) for line in (_CASES / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("case", _cases("gsm8k_texts.jsonl"), ids=lambda case: case["text"])
def test_given_texts(case):
    found = final_answer(case["text"])
    assert (found is not None and found.value == Fraction(case["target"])) == case["correct"]


# Each reading stands for a kind; None is no answer. Read behind the mark, in a box and as a target.
@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1.5e-3", "0.0015"), ("1E3", "1000"), ("1e+3", "1000"), ("1e3.5", None), ("1e", None),
        ("1 e3", None), ("1e9999999", None),
        ("2\u00d710^3", "2000"), ("2 \\times 10^{3}", "2000"), ("3\\cdot 10^{-2}", "0.03"),
        ("10\u00b3", "1000"), ("10^{2.5}", None), ("2^{10}", None), ("2\u00b3", None),
        ("2**3", None), ("x\u00b2", None), ("5!", None), ("5 x^2", None), ("5 a\u00b3", None),
        ("100 m^2", None), ("72 ft\u00b2", None), ("72\\text{ ft}^2", None),  # an exponent
        ("8 cm^2 * 9 = 72 cm", "72"),
        ("72 or so", "72"), ("72 or", None), ("72 or so apples", "72"), ("72 or 80", None),
        ("* 72", "72"), ("\u2022 72 apples", "72"), ("* -5", "-5"), ("*72", None),
        ("* 24 * 3", None),
        ("| 72 |", "72"), ("| total | 72 apples |", "72"), ("| 72 | 48 |", None), ("| -5 |", None),
        ("| 72", None), ("72 |", None), ("|72| 5", None),
        ("\\dfrac{3}{4}", "3/4"), ("\\tfrac12", "1/2"), ("2\\frac{1}{2}", "5/2"),
        ("-\\frac{1}{2}", "-1/2"), ("\\frac{10}{2}", None), ("\\frac{x}{4}", None),
        ("1\\frac{3}{2}", None), ("\\sqrt{16}", None), ("5\\pi", None), ("0.\\overline{3}", None),
        ("1/2", "1/2"), ("7/2", "7/2"), ("10/2", None), ("1 3/2", None), ("5 10/2", None),
        ("1/2/3", None), ("4.8/2", None), ("1 2/0", None), ("48/", None), ("48 + ", None),
        ("24 apples * 3", None), ("24 apples * 3 = 72 apples", "72"), ("5 apples =", None),
        ("24*3 \u2192 72", "72"), ("<<24*3=72", "72"), ("<<24*3", None), ("x = 5", "5"),
        ("a=b=7", "7"), ("3 - 8 = - 5", "-5"), ("x <= 5", None), ("<5", None),
        ("5 million", None), ("5k", None), ("5 dozen", None), ("2 and a half", None),
        ("2x", None), ("3i", None), ("3-4", None), ("3\u20134", None), ("3 to 4", None),
        ("3 or 4", None), ("3, 4", None), ("3:4", None), ("3 : 4", None), ("1.2.3", None),
        ("0.333...", None), ("0.333\u2026", None), ("5 feet 3 inches", None), ("5'6", None),
        ("1,5", None), ("1.000,50", None), ("1,00", None), ("0,5", None), ("101_2", None),
        ("1'000", "1000"), ("1\u2019000", "1000"), ("1 000 000", "1000000"),
        ("1\u00a0000", "1000"), ("1\u2009000", "1000"), ("1{,}000", "1000"), ("10\\,000", "10000"),
        ("\u0665", "5"), ("\u0661\u066c\u0660\u0660\u0660", "1000"), ("\u0663\u066b\u0665", "7/2"),
        ("\u00bd", "1/2"), ("\u2212\u00bd", "-1/2"), ("2\u2154", "8/3"), ("2 \u00bd", "5/2"),
        ("\u2212 5", "-5"), ("\u20145", "-5"), ("-(5)", "-5"), ("(-5)", "-5"), ("--5", None),
        ("|-5|", None), ("\u00b15", None), ("f(5)", None), ("$-5", "-5"), ("-$5", "-5"),
        ("$ 5.00", "5"), ("5$", "5"), ("5 \u20ac", "5"), ("\u00a35", "5"), ("Rs.5", "5"),
        ("5\\%", "5"), ("5.", "5"), ("5,", "5"), ("**5**", "5"), ("*5* apples", "5"),
        ("\\text{5 apples}", "5"), ("5\\text{ apples}", "5"), ("90^\\circ", "90"),
        ("60 miles/hour", "60"), ("5/x", None), ("5-pound bags", "5"), ("5-x", None),
        ("12\\enspace", "12"), ("12\\hspace{1em}", "12"), ("\\quad 12", "12"),
        ("12\\hfill\\null", "12"),
        ("12\\phantom{0}", "12"), ("12\\\\", "12"), ("12\\\\[2pt]", "12"), ("12\\kern-1pt", "12"),
        ("12\\parallel", None), ("1\\thinspace000", "1000"), ("12\\quad\\cdot 3", None),
        ("72</answer>", "72"), ("72<|im_end|>", "72"), ("72 </s>", "72"), ("72<br/>", "72"),
        ("<b>72</b>", "72"), ("72<sup>2</sup>", None), ("<72>", None), ("\u211672", "72"),
        ("minus 72", None), ("negative $72", None), ("72 . 5", None), ("72 .", "72"),
        ("\\color{red}72", "72"), ("\\textcolor{red}{72}", "72"),
        ("5 - so it is", "5"), ("B12", None), ("{12}{5}", None),
        ("v1.2", None), ("B1,000", None), ("A1:30", None), ("x2 = 5", "5"), ("Rs. 5", "5"),
        ("5-hundred", None), ("5 milliards", None), ("5 \u5343", None), ("5 \u767e\u4e07", None),
        ("5 (thousand)", None), ("5 (in thousands)", None), ("5 (in total)", "5"),
        ("sqrt 16", None), ("log 10", None), ("\u221b8", None), ("\u230a5.7\u230b", None),
        ("5 remainder 2", None), ("5 R 2", None), ("5 r2", None), ("\u00bd10", None),
        ("twice 5", None), ("triple 5", None), ("half of 10", None), ("two thirds of 12", None),
        ("3 more than 10", None), ("3 less than 10", None), ("5 percent of 20", None),
        ("5 percent", "5"), ("more than 5", "5"), ("all of 5", "5"),
        ("5 (or 6)", None), ("x = 5 or x = 6", None), ("x = 5, or 6", None),
        ("f(3, 4) = 5", "5"), ("2 (3 + 4) = 14", "14"), ("5 (or x = 6)", None),
    ],
)  # fmt: skip
def test_one_reading_wherever_a_number_stands(written, value):
    expected = None if value is None else Fraction(value)
    for found in (
        final_answer(f"3 + 4 = 7\n#### {written}"),
        final_answer(rf"it is \boxed{{{written}}} by step 3"),
        target_answer(written),
    ):
        assert (None if found is None else found.value) == expected


@pytest.mark.parametrize(
    "written",
    ["x = 5, y = 6", "x=5; y=6", "x = 5 and y = 6", "Tom = 5, Ann = 6", "5 (y = 6)",
     "5, 24*3 = 72", "5 (48 + 24 = 72)", "48/2 = 24 and 24*3 = 72", "48/2 = 24, 24*3 = 72",
     "1) 5", "(1) 5", "1. 5", "1: $5", "2] 72 apples"],
)  # fmt: skip
def test_a_mark_and_a_box_state_one_number(written):
    """At the end of a text the last one counts."""
    assert final_answer(f"#### {written}") is None
    assert final_answer(rf"\boxed{{{written}}}") is None
    assert target_answer(written) is None
    assert final_answer(written) is not None
    assert not has_final_answer(f"#### {written}")


@pytest.mark.parametrize(
    "written",
    ["72. 48 + 24 = 72", "72: 48 + 24 = 72", "48 + 24 = 72 apples, 24 * 3 = 72", "72, 24*3 = 72",
     "x = 72 and y = 72", "72 (48 + 24 = 72)", "72 (= 48 + 24 = 72)", "1) x = 72"],
)  # fmt: skip
def test_the_same_number_again_is_no_other(written):
    assert final_answer(f"#### {written}").value == 72
    assert final_answer(rf"\boxed{{{written}}}").value == 72


def test_the_box_the_mark_and_the_end_in_this_order():
    assert final_answer("\\boxed{3}\n#### 4\n\\boxed{5}").value == 4
    assert final_answer(r"#### \boxed{5}").value == 5
    assert final_answer(r"\boxed{3} and 4").value == 3
    assert final_answer(r"\boxed{12}\boxed{}") is None
    assert final_answer("12 apples\n#### unknown") is None  # nothing else is taken instead
    assert final_answer("#### 5 ####").value == 5  # the last mark was not reached
    assert target_answer("7 apples at 3 dollars") is None
    assert final_answer("#### 7 apples at 3 dollars").value == 7


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
        ("12-5", None),  # a range, or a subtraction that is not finished
        ("x = -5", "-5"),
        ("(12)-5", None),
        ("x = 1,5", None),
        ("5 (or x = 6)", None),
        ("x = 5, y = 6", "6"),
        ("48/2 = 24 and 24*3 = 72", "72"),
        ("1/0", None),
        ("so it is:\n\n* **72** apples", "72"),
        ("24 apples\n* 3", None),  # a product that goes on in the next line
        ("| who | how many |\n|---|---|\n| all | 72 |", "72"),
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


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["5", "1,000", " ", "-", "/", "*", "^", "=", "####", "\\boxed{", "}", "{", "<<", ">>",
             "~", "\\frac", "\u00bd", "\u00b2", "\n", "_", ".", "(", "apples", "and", "\\", "'",
             "|", "\t", "or so"]
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["", "5", "}"]),
)  # fmt: skip
def test_reading_takes_time_in_proportion_to_the_text(pieces, tail):
    """What is quadratic takes many seconds on 20 000 characters."""
    piece = "".join(pieces)
    text = piece * (20_000 // len(piece)) + tail
    start = time.process_time()
    final_answer(text)
    target_answer(text)
    assert time.process_time() - start < 3.0


@given(st.text(max_size=80))
def test_any_unicode_is_read_without_a_crash(text):
    for found in (final_answer(text), final_answer(f"#### {text}"), target_answer(text)):
        assert found is None or isinstance(found.value, Fraction)


@pytest.mark.parametrize(
    ("text", "value"), [("**#### 72**", 72), ("so **#### $72.50**", 72.5), ("#### 72**", None)]
)
def test_a_mark_set_in_bold(text, value):
    """Two stars without a pair are a power that has not been finished."""
    found = final_answer(text)
    assert (None if found is None else float(found.value)) == value
