"""Which questions are, wholly or nearly, among those that are kept apart for measuring.

The rule is that of Brown et al. 2020 (arXiv 2005.14165, appendix C) for training data: two texts
are near each other where they have 13 consecutive words in common.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Literal

_GRAM = 13  # words
_WORD = re.compile(r"[^\W_]+")

Verdict = Literal["equal", "near"]


class KeptApart:
    """The questions that nothing may be trained on."""

    def __init__(self, questions: Iterable[str]):
        self._whole: set[str] = set()
        self._grams: set[str] = set()
        for question in questions:
            words = normalised_words(question)
            self._whole.add(" ".join(words))
            self._grams.update(_grams(words))

    def verdict(self, question: str) -> Verdict | None:
        """`equal`: the same words in the same order; `near`: 13 of them in a row; None: neither.

        A question of fewer words than that can only be equal.
        """
        words = normalised_words(question)
        if " ".join(words) in self._whole:
            return "equal"
        return "near" if any(gram in self._grams for gram in _grams(words)) else None


def normalised_words(text: str) -> list[str]:
    """Letters and digits, without case, compatibility forms (NFKC) or what stands between them."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _grams(words: list[str]) -> Iterator[str]:
    return (" ".join(words[i : i + _GRAM]) for i in range(len(words) - _GRAM + 1))
