"""Which questions are near those that are kept apart, against a plain comparison of all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reoac_jax.tasks.overlap import KeptApart, normalised_words

_WORDS = [f"w{i}" for i in range(60)]
_KEPT = " ".join(_WORDS[:20])


@pytest.mark.parametrize(
    ("question", "verdict"),
    [
        (_KEPT, "equal"),
        (_KEPT.replace(" ", ",\n").upper() + "?!", "equal"),
        ("before " + _KEPT, "near"),
        (" ".join([*_WORDS[40:50], *_WORDS[3:16], "x"]), "near"),  # 13 in a row
        (" ".join([*_WORDS[40:50], *_WORDS[3:15], "x"]), None),  # 12
        (" ".join(_WORDS[19::-1]), None),  # the same words in another order
        ("Two short WORDS.", "equal"),
        ("Two short words, or more", None),
    ],
)
def test_verdicts(question, verdict):
    assert KeptApart([_KEPT, "two short words"]).verdict(question) == verdict


def test_words_are_compared_without_case_form_and_marks():
    assert normalised_words("It\u2019s \uff11,000_Eggs \u2014 Stra\u00dfe") == [
        "it", "s", "1", "000", "eggs", "strasse"
    ]  # fmt: skip


@given(st.integers(0, 2**31 - 1))
def test_near_is_a_run_of_thirteen_words_in_common(seed):
    """Few different words, so that runs of every length occur."""
    rng = np.random.default_rng(seed)
    kept, asked = (list(rng.choice(["a", "b"], size, p=[0.9, 0.1])) for size in (30, 25))
    longest = 0
    for i in range(len(kept)):
        for j in range(len(asked)):
            run = 0
            while i + run < len(kept) and j + run < len(asked) and kept[i + run] == asked[j + run]:
                run += 1
            longest = max(longest, run)
    found = KeptApart([" ".join(kept)]).verdict(" ".join(asked))
    assert found == ("near" if longest >= 13 else None)
