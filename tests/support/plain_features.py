"""The 11 features once more as plain Python on decoded strings, straight from DESIGN.md section 6.

It shares nothing with the package: no tables, no arrays, one prompt and one answer at a time.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction

NUMBER = re.compile(r"[+-]?(\d+\.\d+|\d+|\d+/\d+)%?")
SIGNS = "+-*/=<>&^_"


@dataclasses.dataclass(frozen=True)
class PlainFeatures:
    """text: id to stripped text, empty for special ids. decode: ids to the text they make."""

    text: Callable[[int], str]
    decode: Callable[[Sequence[int]], str]
    special: frozenset[int]
    eos_id: int
    vocab_size: int
    temperature: float

    def __call__(self, prompt, is_key, generated, previous, entropy) -> list[float]:
        """prompt: ids without padding. previous: None at the first step."""
        valid = self.valid(generated)
        if not valid:
            return [0.0] * 11
        share = {j: self.column(prompt, generated[j]) for j in valid}
        keys = [i for i, key in enumerate(is_key) if key]
        on_key = {j: sum(share[j][i] for i in keys) for j in valid}
        scaled = {j: entropy[j] / math.log(self.vocab_size) for j in valid}
        spread = [-sum(p * math.log(p) for p in share[j] if p > 0) for j in valid]
        suspect = [1 - on_key[j] + scaled[j] for j in valid]
        prompt_numbers = {n for i in prompt if (n := self.number(i)) is not None}
        numbers = [n for j in valid if (n := self.number(generated[j])) is not None]
        words = self.decode([generated[j] for j in valid]).split()
        return [
            mean([max(share[j][i] for j in valid) for i in keys]),
            mean(list(on_key.values())),
            mean([1 - scaled[j] for j in valid if on_key[j] >= 0.5 - 1e-9]),  # less rounding
            mean(spread),
            percentile_90(spread),
            self.change(prompt, generated, previous),
            mean([n not in prompt_numbers for n in numbers]),
            mean([n in numbers for n in prompt_numbers]),
            float(bool(words) and NUMBER.search(words[-1]) is not None),
            mean(suspect),
            percentile_90(suspect),
        ]

    def valid(self, generated) -> list[int]:
        ended = list(generated).index(self.eos_id) if self.eos_id in generated else len(generated)
        return [j for j in range(ended) if generated[j] not in self.special]

    def number(self, token) -> str | None:
        found = NUMBER.search(self.text(token))
        return found and found.group()

    def column(self, prompt, token) -> list[float]:
        weights = [math.exp(self.energy(i, token) / self.temperature) for i in prompt]
        return [weight / sum(weights) for weight in weights]

    def energy(self, first, second) -> float:
        a, b = self.text(first), self.text(second)
        if a == b:
            return 1.0
        if NUMBER.fullmatch(a) and NUMBER.fullmatch(b):
            return 0.4
        if set(a) & set(SIGNS) and set(b) & set(SIGNS):
            return 0.6
        return 0.5 if a.casefold() == b.casefold() else 0.1

    def change(self, prompt, generated, previous) -> float:
        if previous is None:
            return 0.0
        both = set(self.valid(generated)) & set(self.valid(previous))
        return mean(
            [
                abs(now - before)
                for j in both
                for now, before in zip(
                    self.column(prompt, generated[j]), self.column(prompt, previous[j]), strict=True
                )
            ]
        )


def mean(values) -> float:
    return sum(values) / len(values) if values else 0.0


def percentile_90(values) -> float:
    return sorted(values)[round(Fraction(9 * (len(values) - 1), 10))]
