r"""Final numeric answers: where a text or a target gives its answer.

The one rule (DESIGN.md section 10), for texts and targets alike: behind `####`, else in `\boxed`,
else at the end. What stands there is read by `expressions.py`; answers are compared exactly.
"""

from string import whitespace
from typing import Literal

from reoac_jax.tasks.boxed import last_boxed
from reoac_jax.tasks.expressions import NumericAnswer, gives_several, numeric_expressions

MARK = "####"
_BLANK = "#" + whitespace
_Where = Literal["mark", "box", "end"]


def final_answer(text: str) -> NumericAnswer | None:
    r"""The number that `text` gives as its answer; None if it gives none.

    Looked for behind the last `####` (the first expression of the first line there; a mark with
    nothing behind it was not reached and does not count), else in the last `\boxed{...}`, else at
    the end of the text (its last expression). What is found there is read by the rule of
    `expressions.py`; if it is no number, or the mark or the box states several, nothing else is
    taken instead. A percent sign is a unit: GSM8K's answers to "what percentage" are published
    without it.
    """
    return _number(*_answer_place(text))


def target_answer(text: str) -> NumericAnswer | None:
    """The number of a target, read as `final_answer` does; None unless it is the only one."""
    place, _ = _answer_place(text, whole=True)
    expressions = numeric_expressions(place)
    return expressions[0] if len(expressions) == 1 else None


def has_final_answer(text: str) -> bool:
    """Whether a number stands behind the text's last `####`."""
    after = _behind_mark(text)
    return after is not None and _number(after, "mark") is not None


def _number(place: str, where: _Where) -> NumericAnswer | None:
    if where != "end" and gives_several(place):
        return None
    expressions = numeric_expressions(place, only=0 if where == "mark" else -1)
    return expressions[0] if expressions else None


def _behind_mark(text: str, whole: bool = False) -> str | None:
    """What stands behind the last mark: its first line that is not blank, or all; None if blank."""
    before, mark, after = text.rpartition(MARK)
    after = after.strip()
    if not mark or not after:
        return None
    if before.endswith("**"):  # the mark and what follows it are set in bold: "**#### 72**"
        after = after.removesuffix("**")
    return after if whole else after.splitlines()[0]


def _answer_place(text: str, whole: bool = False) -> tuple[str, _Where]:
    """The part of the text that holds the answer, and which part that is."""
    # A mark with nothing behind it was not reached: the text was cut off there.
    text = text.rstrip(_BLANK)
    after = _behind_mark(text, whole)
    if after is not None:
        return after, "mark"
    boxed = last_boxed(text)
    return (text, "end") if boxed is None else (boxed, "box")
