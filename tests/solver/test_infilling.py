"""Texts with blanks as token rows."""

import pytest
from support import toy
from transformers import AutoTokenizer

from reoac_jax.solver.infilling import has_blanks, parse_blanks
from reoac_jax.system.errors import InputError

MASK = toy.MASK_ID


def parse(text: str):
    return parse_blanks(text, toy.tokenizer(), MASK)


def words(tokens) -> list[str]:
    return ["_" if token == MASK else toy.WORDS[token] for token in tokens]


def test_text_is_cut_before_its_first_blank():
    row = parse("apple 3 + [MASK] = 12 [MASK:3] .")
    assert words(row.prompt) == ["apple", "3", "+"]
    assert row.key_mask.tolist() == [False, True, True]
    assert words(row.given) == ["_", "=", "12", "_", "_", "_", "."]
    assert row.blanks == ((0, 1), (3, 6)) and not row.opens_with_blank


def test_blanks_side_by_side_and_at_both_ends():
    row = parse("[MASK][MASK] = [MASK:2]")
    assert row.prompt.tolist() == [toy.EOS_ID] and row.key_mask.tolist() == [False]
    assert row.opens_with_blank
    assert words(row.given) == ["_", "_", "=", "_", "_"]
    assert row.blanks == ((0, 1), (1, 2), (3, 5))


@pytest.mark.parametrize("text", ["", "no blank", "[mask]", "[MASK:x]", "[MASK:-1]"])
def test_text_without_a_blank(text):
    assert not has_blanks(text)
    with pytest.raises(InputError, match="has no blank"):
        parse(text)


def test_blank_of_no_token():
    assert has_blanks("a [MASK:0]")
    with pytest.raises(InputError, match="blank of no token"):
        parse("a [MASK:0]")


def test_the_space_before_a_blank_belongs_to_it(shared_data):
    """GPT-2's tokens of words bring their space: none may stand alone before the blank."""
    tokenizer = AutoTokenizer.from_pretrained(next(shared_data.glob("*gpt2*")))
    row = parse_blanks("The answer is [MASK:2] apples, or [MASK].", tokenizer, 50257)
    assert tokenizer.decode(row.prompt) == "The answer is"
    assert tokenizer.decode(row.given[2:5]) == " apples, or"
    assert row.given.tolist()[-2:] == [50257, tokenizer(".")["input_ids"][0]]
    assert row.given.tolist().count(220) == 0  # a lone space
