"""Token rows: key masks against reference numbers, references aligned, truncation counted."""

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from reoac_jax.system.errors import InputError
from reoac_jax.tasks import Problem
from reoac_jax.tasks.encode import encode_problems
from reoac_jax.tasks.keys import key_characters

_EOS = 50256


@pytest.fixture(scope="module")
def gpt2(shared_data):
    return AutoTokenizer.from_pretrained(str(shared_data / "gpt2"))


def _problem(prompt, index=0):
    return Problem(f"gsm8k/train/{index}", prompt, "1", "gsm8k", {})


def _spans(prompt):
    marks = "".join("x" if covered else " " for covered in key_characters(prompt))
    return ["".join(c for c, m in zip(prompt, marks, strict=True) if m == "x")]


@pytest.mark.parametrize(
    ("prompt", "covered"),
    [
        ("Sue has 7 beads and 11 more.", "711"),
        ("at 3.5% or 1/2", "3.5%1/2"),
        ("x7 v2.0 27.", ""),  # parts of words, and a number that ends a sentence
        ("240,000 gallons", "240000"),
        ("Each hour he TIMES it", "EachhourTIMES"),
        ("peach hourly timestamp", ""),
        (r"\frac{a}{b} \left( \le \cdots", r"\frac\le"),
        ("$$x$ a-b", "$$$-"),
        ("-5 + 3", "-5+3"),
    ],
)
def test_key_spans(prompt, covered):
    assert _spans(prompt) == [covered]


@pytest.mark.parity
def test_key_masks_equal_the_reference_numbers(gpt2, shared_golden):
    cases = json.loads((shared_golden / "features.json").read_text())["cases"]
    encoded = encode_problems(
        [_problem(case["prompt"]) for case in cases],
        ["x"] * len(cases),
        gpt2,
        gen_len=4,
        max_prompt_len=512,
        eos_id=_EOS,
    )
    for case, tokens, mask in zip(cases, encoded.prompt_tokens, encoded.key_mask, strict=True):
        assert tokens.tolist() == case["prompt_ids"]
        assert mask.tolist() == [bool(value) for value in case["key_mask"]]


def test_reference_follows_the_prompt_in_joint_tokens(gpt2):
    prompt, answer = "How many clips?", "<<48/2=24>> #### 24"
    encoded = encode_problems(
        [_problem(prompt)], [answer], gpt2, gen_len=20, max_prompt_len=64, eos_id=_EOS
    )
    row = encoded.reference[0].tolist()
    end = row.index(_EOS)
    assert set(row[end:]) == {_EOS} and len(row) == 20
    assert gpt2.decode(encoded.prompt_tokens[0].tolist() + row[:end]) == f"{prompt} {answer}"
    assert encoded.reference.dtype == np.int32 and encoded.prompt_tokens[0].dtype == np.int32
    assert (encoded.prompts_truncated, encoded.references_truncated) == (0, 0)


def test_reference_where_joint_tokens_do_not_keep_the_prompt(gpt2):
    prompt = "Two spaces end this:  "  # the joint text merges the last space with the answer's
    encoded = encode_problems(
        [_problem(prompt)], ["5"], gpt2, gen_len=4, max_prompt_len=64, eos_id=_EOS
    )
    assert encoded.prompt_tokens[0].tolist() == gpt2(prompt)["input_ids"]
    assert encoded.reference[0].tolist() == [*gpt2(" 5")["input_ids"], _EOS, _EOS, _EOS]


def test_truncation_keeps_the_prompts_end_and_is_counted(gpt2):
    prompts = ["one two three 4 five 6", "short 1"]
    whole = [gpt2(prompt)["input_ids"] for prompt in prompts]
    answers = ["a b c d e", "a b c"]
    encoded = encode_problems(
        [_problem(prompt) for prompt in prompts],
        answers,
        gpt2,
        gen_len=3,
        max_prompt_len=4,
        eos_id=_EOS,
    )
    assert encoded.prompt_tokens[0].tolist() == whole[0][-4:]
    assert encoded.key_mask[0].tolist() == [False, True, False, True]
    assert encoded.prompt_tokens[1].tolist() == whole[1]
    # Three tokens fill the row: there is no place for eos, but nothing is lost.
    assert (encoded.prompts_truncated, encoded.references_truncated) == (1, 1)
    assert gpt2.decode(encoded.reference[1]) == " a b c"


def test_many_problems_equal_one_at_a_time(gpt2):
    rows = [_problem(f"{'word ' * (n % 7)}has {n} dollars", n) for n in range(60)]
    answers = [f"#### {n}" for n in range(60)]
    options = dict(gen_len=8, max_prompt_len=6, eos_id=_EOS)
    together = encode_problems(rows, answers, gpt2, **options)
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        alone = encode_problems([row], [answer], gpt2, **options)
        np.testing.assert_array_equal(alone.reference[0], together.reference[index])
        np.testing.assert_array_equal(alone.prompt_tokens[0], together.prompt_tokens[index])
        np.testing.assert_array_equal(alone.key_mask[0], together.key_mask[index])
    assert any(mask.any() for mask in together.key_mask)
    without = encode_problems(rows, answers, gpt2, **options, keys=False)
    np.testing.assert_array_equal(without.reference, together.reference)
    for index in range(60):
        np.testing.assert_array_equal(without.prompt_tokens[index], together.prompt_tokens[index])
        assert not without.key_mask[index].any()
        assert len(without.key_mask[index]) == len(together.key_mask[index])


def test_a_prompt_without_tokens_is_refused(gpt2):
    with pytest.raises(InputError, match="gsm8k/train/0 has no token"):
        encode_problems([_problem("")], ["x"], gpt2, gen_len=2, max_prompt_len=4, eos_id=_EOS)
