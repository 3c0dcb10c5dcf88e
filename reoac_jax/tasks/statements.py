"""Which numbers of a text belong together, and where one statement of a value ends."""

import itertools
from collections.abc import Sequence

from reoac_jax.tasks.expression_tokens import Token

# Words that make one thing of the numbers on both sides.
_JOINING = frozenset(
    "to or and through thru till until x by plus minus times over point of vs versus choose mod"
    " into remainder rem r".split()
)
_COMPARING = frozenset("more less fewer".split())
# "5 hours 30 minutes" is one quantity: neither 5 nor 30.
_MEASURES = frozenset(
    "hours hour hrs hr h minutes minute mins min days day weeks week months month years year feet"
    " foot ft yards yard yd pounds pound lbs lb stone dollars dollar euros euro gallons gallon"
    " quarts quart pints pint cups cup tablespoons tablespoon meters meter metres metre m"
    " kilometers kilometer km kilograms kilogram kg liters liter miles mile degrees degree"
    " dimes dime quarters quarter nickels nickel".split()
)
_OPERATORS = frozenset(("sign", "operator", "equals", "command"))


def statements(tokens: Sequence[Token]) -> list[list[list[int]]]:
    """Places of the numbers of each expression, in order; those that one is joined to beside it."""
    runs: list[list[int]] = []
    for index, token in enumerate(tokens):
        if token.kind != "number":
            continue
        if runs and _joined(tokens, runs[-1][-1], index):
            runs[-1].append(index)
        else:
            runs.append([index])
    return [_cut(tokens, run) for run in runs]


def _cut(tokens: Sequence[Token], run: list[int]) -> list[list[int]]:
    """The run, cut where an equation follows that says a number anew: "72 (48 + 24 = 72)".

    It is cut at the bracket that the last equals sign stands in, at commas outside of brackets, and
    at an "and" between two equations.
    """
    start = brackets_start(tokens, run[0])
    equals = [i for i in range(max(start - 1, 0), run[-1]) if tokens[i].kind == "equals"]
    if not equals or any(token.text.lower() == "or" for token in tokens[run[0] : run[-1]]):
        return [run]
    aside = _aside(tokens, run[0], equals[-1])
    cuts, depth = [], sum(token.kind == "open" for token in tokens[start : run[0]])
    for place, (left, right) in enumerate(itertools.pairwise(run), 1):
        gap = tokens[left + 1 : right]
        depth += sum((token.kind == "open") - (token.kind == "close") for token in gap)
        comma = [token.text for token in gap] == [","] and depth <= 0
        words = [token.text.lower() for token in gap if token.kind == "word"]
        also = words[:1] == ["and"] and equals[0] < left
        if left < equals[-1] and (comma or also) or aside in range(left, right):
            cuts.append(place)
    return [run[first:end] for first, end in itertools.pairwise([0, *cuts, len(run)])]


def _aside(tokens: Sequence[Token], first: int, equals: int) -> int:
    """Where behind `first` the bracket opens that the token at `equals` stands in; -1: in none."""
    depth = 0
    for index in range(equals, first, -1):
        depth += (tokens[index].kind == "close") - (tokens[index].kind == "open")
        if depth < 0:
            return index
    return -1


def brackets_start(tokens: Sequence[Token], first: int) -> int:
    """Where the brackets and signs in front of the number at `first` begin."""
    while first > 0 and tokens[first - 1].kind in ("open", "currency", "sign"):
        first -= 1
    return first


def _joined(tokens: Sequence[Token], left: int, right: int) -> bool:
    """Whether the numbers at `left` and `right` belong to one expression."""
    gap = tokens[left + 1 : right]
    between = [*gap, tokens[right]]
    if any(token.new_line for token in between):
        return False
    if not any(token.spaced or token.kind == "word" for token in between):
        return True  # "1.2.3", "3:30", "5|6": nothing parts them
    kinds = [token.kind for token in gap]
    if kinds == ["close"]:
        return not tokens[right].spaced  # "1) 72" is a numbered line
    if all(kind in ("unit", "close", "open", "currency") for kind in kinds):
        return True  # "10 5", "72 (48": nothing but space parts them
    words = [token.text.lower() for token in gap if token.kind == "word"]
    marks = [token for token in gap if token.kind not in ("word", "unit", "close", "currency")]
    if words and words[-1] == "or" and all(token.text in ",([" for token in marks):
        return True  # "3 (or 4)"
    if not marks or all(token.text == "," for token in marks):
        if not words:
            return True  # "1, 2"
        joining = [word for word in words if word in _JOINING or word == "out"]
        if len(joining) == len(words):
            return True  # "3 to 4"
        if words[0] in _COMPARING and words[1:] == ["than"] or words[-2:] == ["percent", "of"]:
            return True  # "3 more than 4"
        follower = tokens[right + 1] if right + 1 < len(tokens) else None
        return (
            words[0] in _MEASURES
            and len(words) == 1 + (words[-1] == "and")
            and follower is not None
            and follower.kind in ("word", "unit")
        )
    if all(token.kind == "point" for token in marks):
        # A colon with space on both sides is a ratio, with space behind it a label; a point with
        # space on both sides is one of "72 . 5", as a word-level tokenizer parts it.
        if [token.text for token in gap] == ["."]:
            return gap[0].spaced
        return not words and marks[0].text in ":;" and (marks[0].text == ";" or marks[0].spaced)
    if any(token.kind in ("point", "other") for token in gap) or len(words) > 4:
        return False
    # An operator joins if the number on its right is its operand: "apples - 3", not "- see 3".
    nearest = next((t for t in reversed(gap) if t.kind not in ("open", "currency")), None)
    return nearest is None or nearest.kind in _OPERATORS
