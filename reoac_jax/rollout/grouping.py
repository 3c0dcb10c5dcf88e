"""Which prompts are denoised together: little padding in few shapes.

What is computed for a row is its group's prompt width and G generated tokens, and each combination
of width and size is a program to compile. Rows are sorted by length and cut where that is cheapest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from reoac_jax.backbone.prediction import prompt_width

_HALVINGS = 4  # a group has at least batch / 2^4 slots
_QUEUE = 8  # a group has at most this many rows for each slot
_OVERHEAD = 32  # tokens that would take as long as what a group costs besides its own
_TAIL = 0.05  # of the slots' time that is lost at a group's end, while the last rows finish


class Group(NamedTuple):
    """members: indices of its requests, ascending in length. width: columns of the prompts.

    slots: rows denoised together. capacity: rows of the padded queue, slots * 2^k.
    """

    members: list[int]
    width: int
    slots: int
    capacity: int


def plan_groups(
    lengths: Sequence[int], gen_len: int, batch: int, devices: int, queued: bool
) -> list[Group]:
    """Cuts requests into groups so that the fewest tokens are computed.

    There are at most 9 pairs of slots and capacity, 6 where nothing is queued, and as many widths
    as `prompt_width` has.

    Args:
      lengths: prompt tokens of each request. gen_len: G.
      batch: the most rows denoised together on all devices, a multiple of `devices`.
      queued: whether a group may hold more rows than slots. Not with look-aheads: rows that
        began at different times would make theirs in different steps, each at everyone's cost.
    """
    order = np.argsort(lengths, kind="stable")
    widths = [prompt_width(int(lengths[i])) for i in order]
    sizes = {max(batch >> k, 1) for k in range(_HALVINGS + 1)} | {min(len(order), batch)}
    # Places of a group, and how many rows each of them takes at most.
    options = sorted({(-(-size // devices) * devices, 1) for size in sizes})
    if queued:
        options += [(batch, turns) for turns in range(2, _QUEUE + 1)]

    # The cheapest cut of the shortest `end` requests, and where its last group begins.
    cost = [0.0]
    last: list[tuple[int, int, int]] = [(0, 0, 0)]
    for end in range(1, len(order) + 1):
        tokens = widths[end - 1] + gen_len
        cuts = []
        for slots, turns in options:
            begin = max(0, end - slots * turns)
            own = slots * (turns + _TAIL) * tokens + _OVERHEAD
            cuts.append((cost[begin] + own, begin, slots, turns))
        best, begin, slots, turns = min(cuts)
        cost.append(best)
        last.append((begin, slots, turns))

    groups = []
    end = len(order)
    while end:
        begin, slots, turns = last[end]
        capacity = slots * (1 << (turns - 1).bit_length())
        members = [int(i) for i in order[begin:end]]
        groups.append(Group(members, widths[end - 1], slots, capacity))
        end = begin
    return groups[::-1]
