"""Whether a text's final answer equals a MATH answer, decided by `math-verify`.

Imported by worker processes only: importing it loads SymPy, and a call may take for ever.
"""

import re
from typing import Any

import sympy
from math_verify import parse, verify

from reoac_jax.tasks.boxed import bare_answer, last_boxed
from reoac_jax.tasks.expressions import CONTINUING, SCALES
from reoac_jax.tasks.notation import latex_text

# A number with its unit inside one command: "\text{12 apples}".
_WORDED = re.compile(
    r"\\(?:text|textrm|mathrm|mbox)\{\s?(?P<number>[-+]?[0-9][0-9.,]{0,50})"
    r"(?:\s|~|\\[ ,;:])(?P<words>[A-Za-z][A-Za-z ]{0,50})\}"
)
_WORD = re.compile(r"(?<!\\)\b[A-Za-z]+")
_COMMAND = re.compile(r"\\[A-Za-z]+")
# "\ge 5" and "< 5" are no number.
_RELATION = re.compile(r"(?:[<>]|\\(?:[lg]e(?:q(?:slant)?)?|[lg]t|neq?)(?![A-Za-z]))")


def judge(text: str, answer: str) -> dict[str, Any]:
    r"""Compares the text's last `\boxed{...}`, or without one what math-verify finds, to `answer`.

    Both are read by one rule: Unicode as the LaTeX that it stands for, without the punctuation of
    the sentence that the answer ends. An empty box is no answer. What math-verify passes over and
    is part of an answer, a word such as "thousand" or a relation in front, both must have.

    Returns `{"correct": bool, "extracted": str or None}`. math-verify's own time limits are off:
    they need SIGALRM in a main thread and do not stop every computation; the pool's limit does.
    """
    boxed = last_boxed(text)
    expected_box = last_boxed(answer)
    expected = bare_answer(latex_text(answer if expected_box is None else expected_box))
    same = True
    if boxed is None:
        found = _parsed(latex_text(text))
    else:
        content = bare_answer(latex_text(boxed))
        same = _passed_over(content) == _passed_over(expected)
        found = _parsed_box(_without_unit(content, expected))
        expected = _without_unit(expected, content)
    target = _parsed_box(expected)
    correct = same and bool(found) and verify(target, found, timeout_seconds=None)
    extracted = boxed if boxed is not None else str(found[-1]) if found else None
    return {"correct": bool(correct), "extracted": extracted}


def _without_unit(content: str, other: str) -> str:
    r"""`\text{12 apples}` as `12`, if `other`, which it is compared to, says no other words."""
    match = _WORDED.fullmatch(content)
    if match is None:
        return content
    words = match["words"].lower().split()
    others = _WORD.findall(_COMMAND.sub(" ", other).lower())
    if CONTINUING.intersection(words) or not set(words).issuperset(others):
        return content
    return match["number"]


def _passed_over(content: str) -> tuple[set[str], bool]:
    """What math-verify leaves out: words such as "thousand", and whether a relation comes first."""
    words = _WORD.findall(_COMMAND.sub(" ", content).lower())
    sizes = {word.removesuffix("s") for word in SCALES.intersection(words)}
    return sizes, _RELATION.match(content) is not None


def _parsed_box(content: str) -> list:
    return _parsed(rf"\boxed{{{content}}}")


def _parsed(text: str) -> list:
    return [_imaginary(found) for found in parse(text, parsing_timeout=None)]


def _imaginary(found: Any) -> Any:
    """With the imaginary unit in place of the symbol `i`, and with real symbols beside it.

    math-verify leaves `i` a symbol, which is another one in `2+3i` than in `2+3 i`.
    """
    if not isinstance(found, sympy.Basic | sympy.MatrixBase):
        return found
    symbols = {symbol.name: symbol for symbol in found.free_symbols}
    if "i" not in symbols:
        return found
    same = {
        symbol: sympy.I if name == "i" else sympy.Symbol(name, real=True)
        for name, symbol in symbols.items()
    }
    try:
        return found.xreplace(same)
    except TypeError:  # "i > 2" can be said of a variable only
        return found
