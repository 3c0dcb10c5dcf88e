r"""Final answers in MATH's form, `\boxed{...}`."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox|framebox)\s*(?:\{|([^\s{}\\$]))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # a brace behind a backslash is text
_LONGEST_END = 60  # characters at the end of an answer that are looked at for punctuation
# Punctuation, or a command for space, that ends the content; the last point of "..." does not.
_PUNCTUATION = re.compile(
    r"(?:(?<!\.\.)(?<!\\)\.|(?<!\\)[,;:?\u3002\uff0c\uff0e\uff1b]"
    r"|\\[,;:!> ]|\\\\|~|(?<![\\}^_A-Za-z])\{\s*\}"
    r"|\\(?:text|mathrm|mbox)\{\s*[.,;:]?\s*\})\Z"
)
# Space that the content begins with.
_SPACE_BEFORE = re.compile(r"(?:\\[,;:!> ]|\\\\|~|\{\s*\}|\\(?:text|mathrm|mbox)\{\s*\}|\s)+")
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
            return _stripped(text[match.end() : end])
    return None


def bare_answer(content: str) -> str:
    r"""A boxed answer without the punctuation and space of the sentence it ends.

    `12.`, `12 .`, `12.\,`, `12\\` and `12\text{.}` are `12`, `\text{Evelyn.}` is `\text{Evelyn}`;
    the points of `1, 2, ...` stay. Commands for space are expected as `latex_text` writes them.
    """
    before = _SPACE_BEFORE.match(content)
    content = _stripped(content if before is None else content[before.end() :])
    while True:
        shorter = _PUNCTUATION.sub("", content[-_LONGEST_END:])
        shorter = _TEXT_PUNCTUATION.sub(r"\1}", shorter)
        shorter = content[:-_LONGEST_END] + _stripped(shorter)
        if len(shorter) > 2 and shorter[0] == shorter[-1] == "$" and "$" not in shorter[1:-1]:
            shorter = shorter[1:-1]
        if shorter == content:
            return content
        content = shorter


def _stripped(content: str) -> str:
    """Without the white space around it, but for one behind a backslash, which is a command."""
    stripped = content.strip()
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if backslashes % 2 and content != stripped else stripped


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
        elif match[0] == "}" and opened:
            ends[opened.pop()] = match.start()
    return ends
