"""Every sampler again, in plain Python with float64: one row, one step, one position at a time.

Tokens are the most probable ones. What is random in a rule is not here: see `test_laws`.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from support.table_model import EOS, GEN_LEN, MASK, TOKENS, Row, distribution


class Block:
    """What a rule may look at: the row and the block it is in."""

    def __init__(self, variant, tokens, given, places, step, steps, masks, memory):
        self.p = [distribution(variant, tokens, i) for i in range(GEN_LEN)]
        self.tokens, self.given, self.places = tokens, given, places
        self.step, self.steps, self.masks, self.memory = step, steps, masks, memory
        self.masked = [i for i in places if tokens[i] == MASK]
        self.token = [int(np.argmax(p)) for p in self.p]
        self.c = [float(p.max()) for p in self.p]

    def entropy(self, i):
        return -sum(x * math.log(x) for x in self.p[i] if x > 0)

    def margin(self, i):
        ordered = sorted(self.p[i])
        return ordered[-1] - ordered[-2]

    def first(self, value: Callable[[int], float], count: int) -> set[int]:
        """The `count` masked positions of lowest value, leftmost first."""
        return set(sorted(self.masked, key=lambda i: (value(i), i))[:count])


# Each rule: (block, its parameters) -> positions revealed, or also those masked again.


def even(value, block, skip_eos=False):
    left = block.steps - block.step
    if not skip_eos:
        return block.first(value, math.ceil(len(block.masked) / left))
    text = [i for i in block.masked if block.token[i] != EOS]
    quota = max(1, math.ceil(len(text) / left))
    revealed: set[int] = set()
    for i in sorted(block.masked, key=lambda i: (value(i), i)):
        if len(revealed & set(text)) == quota:
            break
        revealed.add(i)
    return revealed


def confidence(block, **options):
    return even(lambda i: -block.c[i], block, **options)


def margin(block, **options):
    return even(lambda i: -block.margin(i), block, **options)


def entropy(block, **options):
    return even(block.entropy, block, **options)


def left_to_right(block, **options):
    return even(lambda i: i, block, **options)


def schedule(block, counts):
    numbers = [int(count) for count in counts.split("-")]
    size = numbers[block.step] if block.step < len(numbers) else GEN_LEN
    return set(block.masked[:size])


def threshold(block, threshold=0.9):
    return {i for i in block.masked if block.c[i] > threshold} | block.first(
        lambda i: -block.c[i], 1
    )


def factor(block, factor=1.0):
    ordered = sorted((block.c[i] for i in block.masked), reverse=True)
    passing = [c for r, c in enumerate(ordered, 1) if c >= 1 - factor / (r + 1)]
    return block.first(lambda i: -block.c[i], max(1, len(passing)))


def entropy_bound(block, gamma=0.1):
    count, total = 0, 0.0
    for h in sorted(block.entropy(i) for i in block.masked):
        if total <= gamma:
            count += 1
        total += h
    return block.first(block.entropy, count)


def prefix_threshold(block, threshold=0.97):
    run: set[int] = set()
    for i in block.masked:
        if run and not block.c[i] > threshold:
            break
        run.add(i)
    return run


def pass_quota(block):
    share, rest = divmod(block.masks, block.steps)
    return share + (block.step < rest)


def klass(block, threshold=0.9, stable=0.01, history=2):
    before = block.memory.get("before", np.zeros((GEN_LEN, TOKENS)))
    past = block.memory.setdefault("divergences", [])
    past.append([
        sum(p * math.log((p + 1e-12) / (q + 1e-12)) for p, q in zip(block.p[i], before[i],
                                                                     strict=True))
        for i in range(GEN_LEN)
    ])  # fmt: skip
    block.memory["before"] = np.array(block.p)
    ready = set()
    if block.step >= history - 1:
        ready = {
            i for i in block.masked
            if block.c[i] > threshold and all(kl[i] < stable for kl in past[-history:])
        }  # fmt: skip
    return ready or block.first(lambda i: -block.c[i], pass_quota(block))


def low_confidence(block, eos_last=False):
    def value(i):
        if not eos_last:
            return -block.c[i]
        return 0.0 if block.token[i] == EOS else -block.c[i] / (1 - block.p[i][EOS])

    return block.first(value, pass_quota(block))


def dilated(block):
    size = len(block.places)
    last = max(1, math.ceil(math.log2(size)))
    rounds: dict[int, int] = {}
    for t in range(1, last + 1):
        distance = max(1, size // 2**t)
        for k, i in enumerate(block.places, 1):
            if i not in rounds and ((k - 1) % distance == 0 or t == last):
                rounds[i] = t
    now = min(rounds[i] for i in block.masked)
    return {i for i in block.masked if rounds[i] == now}


def path_planning(block, eta=1.0):
    free = [i for i in block.places if i not in block.given]

    def score(i):
        if i in block.masked:
            return math.log(block.c[i])
        return eta * math.log(block.p[i][block.tokens[i]])

    count = len(free) * (block.steps - block.step - 1) // block.steps
    hidden = set(sorted(free, key=lambda i: (score(i), i))[:count])
    return set(block.masked) - hidden, hidden - set(block.masked)


SHARE_STEPS = {confidence, margin, entropy, left_to_right, low_confidence, klass, path_planning}


def run(
    rule: Callable, variant: int, start: Row, steps: int, block_len: int, **options
) -> tuple[Row, int]:
    """The final tokens and the forward passes of one row. steps: that the row has."""
    tokens = list(start)
    given = {i for i, token in enumerate(start) if token != MASK}
    size = block_len or GEN_LEN
    blocks: Sequence[list[int]] = [
        list(range(at, min(at + size, GEN_LEN))) for at in range(0, GEN_LEN, size)
    ]
    memory: dict = {}
    passes = 0
    for index, places in enumerate(blocks):
        own = steps
        if rule in SHARE_STEPS:
            own = steps // len(blocks) + (index < steps % len(blocks))
        masks = sum(tokens[i] == MASK for i in places)
        for step in range(own):
            if all(tokens[i] != MASK for i in places):
                break
            passes += 1
            block = Block(variant, tokens, given, places, step, own, masks, memory)
            result = rule(block, **options)
            reveal, remask = result if isinstance(result, tuple) else (result, set())
            if rule in SHARE_STEPS and step == own - 1:
                reveal, remask = set(block.masked), set()
            if passes == steps:  # of the row
                reveal = {i for i in range(GEN_LEN) if tokens[i] == MASK}
            for i in reveal:
                tokens[i] = block.token[i]
            for i in remask:
                tokens[i] = MASK
    return tuple(tokens), passes
