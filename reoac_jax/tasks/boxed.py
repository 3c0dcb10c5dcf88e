r"""Final answers in MATH's form, `\boxed{...}`."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|([^\s{}\\$]))")
# The MATH-500 file repeats the boxed answer behind the solution, without a space.
_REPEATED_ANSWER = re.compile(r"\s*The answer is: (?P<answer>[^\n]*)\Z")


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}`; None if there is none.

    Braces are counted, so nested ones belong to the content; `\boxed 5` holds the one character.
    """
    for match in reversed(list(_BOX.finditer(text))):
        if match[1]:
            return match[1]
        end = _closing_brace(text, match.end())
        if end is not None:
            return text[match.end() : end].strip()
    return None


def without_repeated_answer(text: str) -> str:
    r"""The solution without a trailing `The answer is: ...` that repeats its boxed answer."""
    match = _REPEATED_ANSWER.search(text)
    if match is None or match["answer"].strip() != last_boxed(text[: match.start()]):
        return text
    return text[: match.start()]


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for position in range(start, len(text)):
        if text[position] in "{}" and text[position - 1] != "\\":
            depth += 1 if text[position] == "{" else -1
            if depth == 0:
                return position
    return None
