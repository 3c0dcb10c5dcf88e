"""Texts with blanks as token rows: what stands there already, and what is to be written."""

import dataclasses
import re

import numpy as np

from reoac_jax.system.errors import InputError
from reoac_jax.tasks.encode import encode_prompts
from reoac_jax.tasks.tokenizer import Tokenizer

# `[MASK]` stands for one token, `[MASK:5]` for five.
_BLANK = re.compile(r"\[MASK(?::([0-9]{1,4}))?\]")


@dataclasses.dataclass(frozen=True)
class BlankedText:
    """A text with blanks, cut before the first of them.

    Attributes:
      prompt: int32 `[P]`, what stands before it; a lone eos, as between documents, if nothing does.
      key_mask: bool `[P]`, the prompt's key tokens (DESIGN.md, section 6).
      given: int32 `[G]`, from the first blank to the text's end: tokens, and masks for the blanks.
      blanks: each blank's first and last-plus-one position in `given`.
      opens_with_blank: whether that lone eos stands for an empty prompt.
    """

    prompt: np.ndarray
    key_mask: np.ndarray
    given: np.ndarray
    blanks: tuple[tuple[int, int], ...]
    opens_with_blank: bool


def has_blanks(text: str) -> bool:
    """Whether `text` holds `[MASK]` or `[MASK:n]`."""
    return _BLANK.search(text) is not None


def parse_blanks(text: str, tokenizer: Tokenizer, mask_id: int) -> BlankedText:
    """Tokenises a text with blanks, each stretch between two of them by itself.

    One space before a blank belongs to what fills it: subword tokens of a word's beginning bring
    their space along.

    Raises `InputError` for a text without a blank, or with a blank of no token.
    """
    first, *rest = _BLANK.split(text)
    if not rest:
        raise InputError(f"{text!r} has no blank; expected [MASK] or [MASK:5] for one of 5 tokens")
    sizes = [1 if size is None else int(size) for size in rest[::2]]
    if 0 in sizes:
        raise InputError(f"{text!r} has a blank of no token; expected 1 or more")
    *between, last = rest[1::2]
    stretches = [stretch.removesuffix(" ") for stretch in (first, *between)] + [last]
    (prompt, keys), *encoded = encode_prompts(stretches, tokenizer)
    given: list[int] = []
    blanks = []
    for size, (tokens, _) in zip(sizes, encoded, strict=True):
        blanks.append((len(given), len(given) + size))
        given += [mask_id] * size + tokens
    opens_with_blank = not prompt
    if opens_with_blank:
        prompt, keys = [tokenizer.eos_token_id], [False]
    return BlankedText(
        np.array(prompt, np.int32), np.array(keys, bool), np.array(given, np.int32),
        tuple(blanks), opens_with_blank,
    )  # fmt: skip
