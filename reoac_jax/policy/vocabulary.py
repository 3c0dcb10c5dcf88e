"""What the loop must know of a token's text, as arrays of length V (DESIGN.md, section 5).

Everything that depends on text is looked up here and never computed on the device.
"""

import re
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from reoac_jax.system.errors import InputError
from reoac_jax.tasks.equation_notation import Symbols, build_symbols
from reoac_jax.tasks.prompting import end_ids, special_ids
from reoac_jax.tasks.tokenizer import Tokenizer

NUMBER = re.compile(r"[+-]?(\d+\.\d+|\d+|\d+/\d+)%?")
_OPERATOR_SIGNS = frozenset("+-*/=<>&^_")


class Vocabulary(NamedTuple):
    """Lookup tables, one entry a token id, each of shape `[V]`.

    text_id: int32, equal for tokens of equal stripped text.
    folded_id: int32, equal for tokens whose stripped text is equal after casefold.
    is_number: bool, the stripped text is a number as a whole.
    number_id: int32, equal for tokens that hold the same number; -1 where there is none.
    has_digit, is_operator: bool, the stripped text holds a digit, an operator sign.
    is_special: bool, mask, pad, bos, eos and the like; their text is empty.
    is_eos: bool, ends the generated text.
    is_blank: bool, the token adds nothing but white space (or nothing) to the text.
    space_inside: bool, white space stands before the token's last word.
    space_at_end: bool, the token ends with white space.
    last_word_has_digit: bool, a digit stands in the token's last word.
    symbols: `Symbols`, of the task's notation; None where the heads do not see it.
    """

    text_id: jax.Array | np.ndarray
    folded_id: jax.Array | np.ndarray
    is_number: jax.Array | np.ndarray
    number_id: jax.Array | np.ndarray
    has_digit: jax.Array | np.ndarray
    is_operator: jax.Array | np.ndarray
    is_special: jax.Array | np.ndarray
    is_eos: jax.Array | np.ndarray
    is_blank: jax.Array | np.ndarray
    space_inside: jax.Array | np.ndarray
    space_at_end: jax.Array | np.ndarray
    last_word_has_digit: jax.Array | np.ndarray
    symbols: Symbols | None = None


def build_vocabulary(
    tokenizer: Tokenizer, vocab_size: int, mask_id: int, *, symbols: bool = False
) -> Vocabulary:
    """Builds the tables from the tokenizer's own decoding, as NumPy arrays.

    Args:
      tokenizer: decodes ids below `len(tokenizer)`.
      vocab_size: V of the model; ids the tokenizer lacks have empty text.
      mask_id: the model's mask. symbols: whether the table of symbols is made too.

    Raises:
      InputError: the tokenizer has more tokens than the model has ids, or none of letters or
        digits.
    """
    special = special_ids(tokenizer) | {mask_id}
    ordinary = [i for i in range(min(len(tokenizer), vocab_size)) if i not in special]
    if max(len(tokenizer), tokenizer.eos_token_id + 1) > vocab_size:
        raise InputError(
            f"the tokenizer has {len(tokenizer)} tokens but the backbone's vocabulary has "
            f"{vocab_size} with the mask; expected one that matches it"
        )

    written = [""] * vocab_size
    for i, piece in zip(ordinary, _pieces_in_context(tokenizer, ordinary), strict=True):
        written[i] = piece
    texts = [""] * vocab_size
    for i, text in zip(ordinary, _decode(tokenizer, [[i] for i in ordinary]), strict=True):
        texts[i] = text.strip()

    numbers = [NUMBER.search(text) for text in texts]
    last_words = [(piece.split() or [""])[-1] for piece in written]
    is_special = np.zeros(vocab_size, bool)
    is_special[sorted(special)] = True
    is_special[len(tokenizer) :] = True
    is_eos = np.isin(np.arange(vocab_size), list(end_ids(tokenizer)))
    return Vocabulary(
        text_id=_number_equal(texts),
        folded_id=_number_equal([text.casefold() for text in texts]),
        is_number=np.array([NUMBER.fullmatch(text) is not None for text in texts]),
        number_id=_number_equal([match and match.group() for match in numbers]),
        has_digit=np.array([_has_digit(text) for text in texts]),
        is_operator=np.array([not _OPERATOR_SIGNS.isdisjoint(text) for text in texts]),
        is_special=is_special,
        is_eos=is_eos,
        is_blank=np.array([not piece.strip() for piece in written]),
        space_inside=np.array([len(f".{piece.rstrip()}".split()) > 1 for piece in written]),
        space_at_end=np.array([piece != piece.rstrip() for piece in written]),
        last_word_has_digit=np.array([_has_digit(word) for word in last_words]),
        symbols=build_symbols(written, is_special, is_eos, mask_id) if symbols else None,
    )


def _has_digit(text: str) -> bool:
    return re.search(r"\d", text) is not None


def _number_equal(keys: Sequence[Hashable | None]) -> np.ndarray:
    """int32 `[V]`: the same small number for equal keys, -1 for None."""
    seen: dict[Hashable, int] = {}
    return np.array([-1 if k is None else seen.setdefault(k, len(seen)) for k in keys], np.int32)


def _decode(tokenizer: Tokenizer, rows: Sequence[Sequence[int]]) -> list[str]:
    # The Rust decoder itself: the Python wrapper may clean up spaces, and takes 10 times as long.
    return tokenizer.backend_tokenizer.decode_batch(rows, skip_special_tokens=False)


def _pieces_in_context(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """What each token adds to a text that goes before it, its own leading space included.

    Word-level decoders put a space between tokens, which a token decoded alone does not show.
    """
    words = (i for i in ids if _decode(tokenizer, [[i]])[0].strip().isalnum())
    before = next(words, None)
    if before is None:
        raise InputError(
            "the tokenizer has no token of letters or digits; expected one that can write answers"
        )
    (prefix,) = _decode(tokenizer, [[before]])
    rows = _decode(tokenizer, [[before, i] for i in ids])
    return [row[len(prefix) :] if row.startswith(prefix) else row for row in rows]
