"""What a tokenizer's files say of ids, read as JSON: loading the tokenizer itself takes seconds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object

MASK_TOKEN = "<|mask|>"


class TokenizerIds(NamedTuple):
    """mask: the id of `<|mask|>`. size: one more than the highest id. None where unknown."""

    mask: int | None
    size: int | None


def read_tokenizer_ids(files: Sequence[Path]) -> TokenizerIds:
    """Reads `tokenizer.json`, or `vocab.json`, and the tokens that other files add.

    Args:
      files: the tokenizer's files, any of those that `transformers` writes; possibly none.

    Raises:
      InputError: a file is no JSON, or two of them give the mask different ids.
    """
    by_name = {file.name: file for file in files}
    masks: dict[int, Path] = {}
    highest = -1
    for name, entries in (
        ("tokenizer.json", _whole_tokenizer),
        ("vocab.json", dict.items),
        ("added_tokens.json", dict.items),
        ("tokenizer_config.json", _decoder_entries),
    ):
        if name not in by_name or (name == "vocab.json" and "tokenizer.json" in by_name):
            continue
        values = read_json_object(by_name[name], "a tokenizer's file")
        try:
            found = list(entries(values))
        except (AttributeError, IndexError, KeyError, TypeError):
            raise InputError(
                f"{by_name[name]} does not list tokens as a tokenizer's file does; expected it as "
                "transformers writes it"
            ) from None
        for text, index in found:
            if type(index) is not int or index < 0:
                raise InputError(f"{by_name[name]}: token {text!r} has id {index!r}; expected one")
            highest = max(highest, index)
            if text == MASK_TOKEN:
                masks[index] = by_name[name]
    if len(masks) > 1:
        places = ", ".join(f"{index} in {file.name}" for index, file in masks.items())
        raise InputError(
            f"{files[0].parent}: {MASK_TOKEN} has several ids ({places}); expected one"
        )
    return TokenizerIds(next(iter(masks), None), highest + 1 if highest >= 0 else None)


def _whole_tokenizer(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    vocabulary = values.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:  # a unigram model lists pairs of text and score
        yield from ((entry[0], index) for index, entry in enumerate(vocabulary))
    for token in values.get("added_tokens", []):
        yield token.get("content"), token.get("id")


def _decoder_entries(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """`added_tokens_decoder`: id as text to the token."""
    for index, token in values.get("added_tokens_decoder", {}).items():
        yield token.get("content"), int(index) if index.isdecimal() else index
