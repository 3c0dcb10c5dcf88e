"""Problems as token rows, on the host: prompts, their key tokens, and reference answers."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from reoac_jax.config.schema import is_text
from reoac_jax.system.errors import InputError
from reoac_jax.tasks.keys import key_characters
from reoac_jax.tasks.prompting import PLAIN, Prompting
from reoac_jax.tasks.task import Problem
from reoac_jax.tasks.tokenizer import Tokenizer

_CHUNK = 4096  # problems tokenised together, so that memory stays small


@dataclasses.dataclass(frozen=True)
class Encoded:
    """N problems as tokens.

    Attributes:
      prompt_tokens: N arrays int32 `[P_i]`, no special tokens; P_i from 1 to max_prompt_len.
      key_mask: N arrays bool `[P_i]`: the token's text overlaps a key span (DESIGN.md section 6).
      reference: int32 `[N, G]` tokens of the reference answer, ended and padded with eos.
      prompts_truncated: prompts that were longer and kept their last max_prompt_len tokens.
      references_truncated: references of more than G tokens, which kept their first G.
    """

    prompt_tokens: list[np.ndarray]
    key_mask: list[np.ndarray]
    reference: np.ndarray
    prompts_truncated: int
    references_truncated: int


def encode_problems(
    problems: Sequence[Problem],
    references: Sequence[str],
    tokenizer: Tokenizer,
    *,
    gen_len: int,
    max_prompt_len: int,
    eos_id: int,
    pad_id: int | None = None,
    prompting: Prompting = PLAIN,
    keys: bool = True,
) -> Encoded:
    """Tokenises prompts and references (DESIGN.md sections 6 and 10).

    A reference's tokens are those that follow the prompt's own in the tokens of
    `prompt + " " + answer`, so that they stand in the row as the backbone would see them. Where
    the joint tokens do not begin with the prompt's, `" " + answer` is tokenised alone. A reference
    of exactly `gen_len` tokens is whole: it has no place for its eos, but loses nothing.

    Args:
      eos_id: ends an answer. pad_id: stands behind it; None: eos_id.
      prompting: how a problem's prompt is written. Behind a chat's the answer follows at once.
      keys: whether key tokens are looked for, which takes time; else none is.

    Raises `InputError` for a prompt without a token, and for a tokenizer without character
    offsets.
    """
    prompt_tokens: list[np.ndarray] = []
    key_mask: list[np.ndarray] = []
    reference = np.full((len(problems), gen_len), eos_id if pad_id is None else pad_id, np.int32)
    prompts_truncated = references_truncated = 0
    for start in range(0, len(problems), _CHUNK):
        rows = range(start, min(start + _CHUNK, len(problems)))
        answers = [prompting.joint + references[row] for row in rows]
        prompts = [problems[row].prompt for row in rows]
        written = [prompting.text(prompt).text for prompt in prompts]
        joint = _tokenize(
            tokenizer, [prompt + answer for prompt, answer in zip(written, answers, strict=True)]
        )
        for row, answer, (tokens, mask), both in zip(
            rows,
            answers,
            encode_prompts(prompts, tokenizer, prompting, keys),
            joint["input_ids"],
            strict=True,
        ):
            if not tokens:
                raise InputError(f"the prompt of problem {problems[row].id} has no token")
            if both[: len(tokens)] == tokens:
                answer_tokens = both[len(tokens) :]
            else:
                answer_tokens = _tokenize(tokenizer, [answer])["input_ids"][0]
            references_truncated += len(answer_tokens) > gen_len
            answer_tokens = answer_tokens[:gen_len]
            reference[row, : len(answer_tokens)] = answer_tokens
            reference[row, len(answer_tokens) : len(answer_tokens) + 1] = eos_id
            prompts_truncated += len(tokens) > max_prompt_len
            prompt_tokens.append(np.asarray(tokens[-max_prompt_len:], np.int32))
            key_mask.append(np.asarray(mask[-max_prompt_len:], bool))
    return Encoded(prompt_tokens, key_mask, reference, prompts_truncated, references_truncated)


def encode_prompts(
    prompts: Sequence[str],
    tokenizer: Tokenizer,
    prompting: Prompting = PLAIN,
    keys: bool = True,
) -> list[tuple[list[int], list[bool]]]:
    """Each prompt's tokens, all of them, and which of them are key tokens (DESIGN.md section 6).

    keys: whether they are looked for; else none is one.

    Of a chat only the problem's own text has key tokens: not the system's turn, nor examples.

    Raises `InputError` for a prompt that is not UTF-8 (a terminal can hand over what is not), and
    for a tokenizer without character offsets.
    """
    if not tokenizer.is_fast:
        raise InputError("the tokenizer gives no character offsets; expected a fast tokenizer")
    for prompt in prompts:
        if not is_text(prompt):  # which the tokenizer does not take either
            raise InputError(
                f"the prompt {ascii(prompt)} is not UTF-8; expected UTF-8 text, and a locale of it"
            )
    if not prompts:  # which the tokenizer does not take
        return []
    written = [prompting.text(prompt) for prompt in prompts]
    encoded = _tokenize(tokenizer, [text for text, _ in written], offsets=keys)
    if not keys:
        return [(tokens, [False] * len(tokens)) for tokens in encoded["input_ids"]]
    rows = []
    for prompt, (text, first), tokens, offsets in zip(
        prompts, written, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        own = prompt.strip() if prompting.is_chat else prompt
        covered = np.zeros(len(text), bool)
        covered[first : first + len(own)] = key_characters(own)
        rows.append((tokens, [any(covered[first:last]) for first, last in offsets]))
    return rows


def _tokenize(tokenizer: Tokenizer, texts: list[str], offsets: bool = False):
    # `verbose=False`: longer than the tokenizer's own limit is counted here, not warned about.
    return tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=offsets,
        return_attention_mask=False,
        verbose=False,
    )
