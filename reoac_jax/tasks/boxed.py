r"""Final answers in MATH's form, `\boxed{...}`."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|([^\s{}\\$]))")
_BRACE = re.compile(r"(?<!\\)[{}]")
_LONGEST_END = 60  # characters at the end of an answer that are looked at for punctuation
# Punctuation, or a command for space, that ends the content; the last point of "..." does not.
_PUNCTUATION = re.compile(
    r"(?:(?<!\.\.)(?<!\\)\.|(?<!\\)[,;:?\u3002\uff0c\uff0e\uff1b]"
    r"|\\[,;:!> ]|\\(?:quad|qquad|newline)|\\\\|~"
    r"|\\(?:text|mathrm|mbox)\{\s*[.,;:]?\s*\})\Z"
)
_TEXT_PUNCTUATION = re.compile(r"((?:[^.,;:\s{}\\]|\}))[.,;:\s]+\}\Z")
# The MATH-500 file repeats the boxed answer behind the solution, without a space.
_REPEATED_ANSWER = re.compile(r"\s*The answer is: (?P<answer>[^\n]*)\Z")


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}`; None if there is none.

    Braces are counted, so nested ones belong to the content; `\boxed 5` holds the one character.
    """
    boxes = list(_BOX.finditer(text))
    ends = _closing_braces(text) if boxes else {}
    for match in reversed(boxes):
        if match[1]:
            return match[1]
        end = ends.get(match.end() - 1)
        if end is not None:
            return text[match.end() : end].strip()
    return None


def bare_answer(content: str) -> str:
    r"""A boxed answer without the punctuation and space of the sentence it ends.

    `12.`, `12 .`, `12.\,` and `12\text{.}` are `12`, `\text{Evelyn.}` is `\text{Evelyn}`; the
    points of `1, 2, ...` stay.
    """
    content = content.strip()
    while True:
        shorter = _PUNCTUATION.sub("", content[-_LONGEST_END:])
        shorter = _TEXT_PUNCTUATION.sub(r"\1}", shorter)
        shorter = content[:-_LONGEST_END] + shorter.strip()
        if len(shorter) > 2 and shorter[0] == shorter[-1] == "$" and "$" not in shorter[1:-1]:
            shorter = shorter[1:-1]
        if shorter == content:
            return content
        content = shorter


def without_repeated_answer(text: str) -> str:
    r"""The solution without a trailing `The answer is: ...` that repeats its boxed answer."""
    match = _REPEATED_ANSWER.search(text)
    if match is None or match["answer"].strip() != last_boxed(text[: match.start()]):
        return text
    return text[: match.start()]


def _closing_braces(text: str) -> dict[int, int]:
    """The place of the closing brace for that of each opening one that is closed."""
    ends: dict[int, int] = {}
    opened: list[int] = []
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            opened.append(match.start())
        elif opened:
            ends[opened.pop()] = match.start()
    return ends
