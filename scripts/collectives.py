"""What the devices tell each other in a compiled program, read from its text."""

import collections
import math
import re
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
    "ragged-all-to-all",
    "collective-broadcast",
)
# `%name = <result shape or (shapes)> all-reduce(operands), ...`; `-done` repeats its `-start`.
_LINE = re.compile(rf"=\s+(\(?[^=]*?)\s({'|'.join(KINDS)})(-start)?\(")
_COMMENT = re.compile(r"/\*.*?\*/")  # the compiler numbers the elements of long tuples
_ARRAY = re.compile(r"\b([a-z]+)(\d+)?(?:e\w+)?\[([\d,]*)\]")


class Collective(NamedTuple):
    """One operation. kind: of `KINDS`. bytes: of its result on one device."""

    kind: str
    bytes: int


def collectives(text: str) -> list[Collective]:
    """The collective operations in a compiled program.

    Args:
      text: `jax.jit(f).lower(...).compile().as_text()`; the body of a loop stands in it once.
    """
    found = []
    for line in text.splitlines():
        match = _LINE.search(_COMMENT.sub("", line))
        if match is not None:
            shapes, kind, start = match.groups()
            # An asynchronous all-gather's result is (operand, result).
            size = sum(_size(*array) for array in _ARRAY.findall(shapes))
            if start and kind != "all-reduce":
                size = max(_size(*array) for array in _ARRAY.findall(shapes))
            found.append(Collective(kind, size))
    return found


def bytes_by_kind(text: str) -> dict[str, int]:
    """Bytes of the results on one device, summed for each kind of collective that occurs."""
    total: collections.Counter[str] = collections.Counter()
    for collective in collectives(text):
        total[collective.kind] += collective.bytes
    return dict(total)


def _size(kind: str, bits: str, dimensions: str) -> int:
    """Bytes of `f32[2,3]` and the like; `pred` is one byte."""
    count = math.prod(int(size) for size in dimensions.split(",") if size)
    return count * max(1, int(bits or 8) // 8)
