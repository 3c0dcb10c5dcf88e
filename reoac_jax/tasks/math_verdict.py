"""Whether a text's final answer equals a MATH answer, decided by `math-verify`.

Imported by worker processes only: importing it loads SymPy, and a call may take for ever.
"""

from typing import Any

from math_verify import parse, verify

from reoac_jax.tasks.boxed import bare_answer, last_boxed
from reoac_jax.tasks.notation import latex_text


def judge(text: str, answer: str) -> dict[str, Any]:
    r"""Compares the text's last `\boxed{...}`, or without one what math-verify finds, to `answer`.

    Both are read by one rule: Unicode as the LaTeX that it stands for, without the punctuation of
    the sentence that the answer ends. An empty box is no answer.

    Returns `{"correct": bool, "extracted": str or None}`. math-verify's own time limits are off:
    they need SIGALRM in a main thread and do not stop every computation; the pool's limit does.
    """
    boxed = last_boxed(text)
    found = _parsed(latex_text(text)) if boxed is None else _parsed_box(boxed)
    expected_box = last_boxed(answer)
    expected = _parsed_box(answer if expected_box is None else expected_box)
    correct = bool(found) and verify(expected, found, timeout_seconds=None)
    extracted = boxed if boxed is not None else str(found[-1]) if found else None
    return {"correct": bool(correct), "extracted": extracted}


def _parsed_box(content: str) -> list:
    return _parsed(rf"\boxed{{{bare_answer(latex_text(content))}}}")


def _parsed(text: str) -> list:
    return parse(text, parsing_timeout=None)
