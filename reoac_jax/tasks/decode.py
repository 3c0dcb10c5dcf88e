"""From tokens back to text."""

import jax
import numpy as np

from reoac_jax.tasks.prompting import end_ids
from reoac_jax.tasks.tokenizer import Tokenizer


def generated_text(
    tokens: np.ndarray, tokenizer: Tokenizer, special: np.ndarray | jax.Array
) -> str:
    """The text of generated tokens int32 `[G]`: before what ends it, special tokens left out.

    special: bool `[V]`, the vocabulary's table.
    """
    ended = np.flatnonzero(np.isin(tokens, list(end_ids(tokenizer))))
    before = tokens[: ended[0]] if len(ended) else tokens
    kept = before[~np.asarray(special)[before]]
    return _text_of(tokenizer, kept.tolist()).strip()


def prompt_text(tokens: np.ndarray, tokenizer: Tokenizer) -> str:
    """The text of a prompt's tokens int32 `[P]`, special ones included."""
    return _text_of(tokenizer, tokens.tolist())


def token_texts(tokens: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    """Each token's own text; `[MASK]` for ids that the tokenizer lacks."""
    return [_text_of(tokenizer, [i]) if i < len(tokenizer) else "[MASK]" for i in tokens.tolist()]


def _text_of(tokenizer: Tokenizer, tokens: list[int]) -> str:
    text = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)  # a list is for batches
    return text
