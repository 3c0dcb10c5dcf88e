"""Chats: the prompt's text, its key tokens, what ends an answer; and digits that are tokens."""

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from reoac_jax.policy.vocabulary import build_vocabulary
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import Problem
from reoac_jax.tasks.decode import generated_text
from reoac_jax.tasks.encode import encode_problems, encode_prompts
from reoac_jax.tasks.prompting import Prompting, end_ids, pad_id, set_up_chat
from reoac_jax.tasks.tokenizer import read_tokenizer
from scripts import make_chat_tokenizer

FOLDER = Path(__file__).resolve().parents[2] / "data" / "tiny_chat_tokenizer"
TINY = FOLDER.parent / "tiny_mdlm"
END, TURN_END = 256, 258


@pytest.fixture
def tokenizer():
    return read_tokenizer(str(FOLDER))


@pytest.fixture
def chat(tokenizer):
    set_up_chat(tokenizer)
    return tokenizer


def problem(prompt):
    return Problem("gsm8k/train/0", prompt, "1", "gsm8k", {})


def test_the_bundled_files_are_the_scripts(tmp_path):
    assert make_chat_tokenizer.main([str(tmp_path)]) == 0
    for file in FOLDER.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes()


def test_the_end_of_a_turn_becomes_the_end_of_a_text(tokenizer):
    assert tokenizer.eos_token_id == END and end_ids(tokenizer) == {END}
    set_up_chat(tokenizer)
    assert tokenizer.eos_token == "<|im_end|>" and pad_id(tokenizer) == END
    assert end_ids(tokenizer) == {END, TURN_END}
    vocabulary = build_vocabulary(tokenizer, 264, 259)
    assert np.flatnonzero(vocabulary.is_eos).tolist() == [END, TURN_END]
    assert np.flatnonzero(vocabulary.is_special).tolist() == list(range(256, 264))


def test_a_text_ends_at_whichever_end_comes_first(chat):
    vocabulary = build_vocabulary(chat, 264, 259)
    words = chat("so 4", add_special_tokens=False)["input_ids"]
    more = chat(" and on", add_special_tokens=False)["input_ids"]
    for end in (END, TURN_END):
        row = np.array([*words, end, *more])
        assert generated_text(row, chat, vocabulary.is_special) == "so 4"


def test_a_chat_is_the_templates_with_system_and_examples(chat):
    prompting = Prompting(chat, "Be brief.", (("1 + 1?", "2"),))
    text, first = prompting.text("3 + 4?")
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\n3 + 4?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert text[first:].startswith("3 + 4?<|im_end|>")
    assert Prompting(chat).text("think").first == len("<|im_start|>user\n")


def test_only_the_questions_own_text_has_key_tokens(chat):
    prompting = Prompting(chat, "Add 7.", (("1 + 1?", "2"),))
    ((tokens, keys),) = encode_prompts(["3 + 45?"], chat, prompting)
    assert chat.decode(tokens) == prompting.text("3 + 45?").text
    assert [chat.decode([t]) for t, key in zip(tokens, keys, strict=True) if key] == list("3+45")


def test_a_template_that_trims_as_lladas_does(tokenizer):
    """It begins with one bos, and takes the white space off a turn's text: keys are found all the
    same, and nothing is put before the prompt a second time."""
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = (
        "{% for message in messages %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n\n' + message.content | trim + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
    )
    set_up_chat(tokenizer)
    prompting = Prompting(tokenizer, "Be brief.")
    ((tokens, keys),) = encode_prompts(["  3 + 45?\n"], tokenizer, prompting)
    assert tokenizer.decode(tokens) == (
        "<|endoftext|><|im_start|>system\n\nBe brief.<|im_end|>"
        "<|im_start|>user\n\n3 + 45?<|im_end|><|im_start|>assistant\n\n"
    )
    assert [tokenizer.decode([t]) for t, key in zip(tokens, keys, strict=True) if key] == list(
        "3+45"
    )
    assert tokens.count(END) == 1 and end_ids(tokenizer) == {END, TURN_END}


def test_a_reference_follows_at_once_and_ends_with_the_turn(chat):
    encoded = encode_problems(
        [problem("3 + 4?")], ["7"], chat, gen_len=4, max_prompt_len=200,
        eos_id=chat.eos_token_id, pad_id=pad_id(chat), prompting=Prompting(chat),
    )  # fmt: skip
    seven = chat("7")["input_ids"][0]
    assert encoded.reference.tolist() == [[seven, TURN_END, END, END]]
    assert encoded.prompts_truncated == encoded.references_truncated == 0


def settings(**changed):
    return ConfigDict({"prompt": "chat", "system_prompt": "none", "worked_examples": 0} | changed)


class ThreeProblems:
    def problems(self, split):
        assert split == "train"  # never from what is tested on
        return [problem(f"q{i}") for i in range(3)]

    def reference_text(self, problem):
        return f"answer to {problem.prompt}"


def test_worked_examples_are_the_first_training_problems(chat):
    made = Prompting.create(settings(worked_examples=2), chat, ThreeProblems())
    assert made.examples == (("q0", "answer to q0"), ("q1", "answer to q1"))
    with pytest.raises(InputError, match="there are 3 training problems"):
        Prompting.create(settings(worked_examples=4), chat, ThreeProblems())
    assert not Prompting.create(settings(prompt="plain"), chat, ThreeProblems()).is_chat


def test_the_system_turn_is_the_configurations_and_none_is_no_turn(chat):
    for given, turn in (("Be brief.", "<|im_start|>system\nBe brief.<|im_end|>\n"), ("none", "")):
        made = Prompting.create(settings(system_prompt=given), chat, ThreeProblems())
        assert made.text("3?").text.startswith(f"{turn}<|im_start|>user\n3?<|im_end|>")


def test_a_tokenizer_without_a_template_is_refused():
    with pytest.raises(InputError, match="has no chat template"):
        set_up_chat(read_tokenizer(str(TINY)))


@pytest.mark.parametrize(
    "template,words",
    [
        ("{{ messages[0].content }}{{ messages[-1].content }}\n", "without a special token"),
        ("{{ raise_exception('no system turn') }}", "no system turn"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(tokenizer, template, words):
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=words):
        set_up_chat(tokenizer)


def test_a_template_that_rewrites_the_question_is_refused(chat):
    chat.chat_template = "{{ messages[-1].content | upper }}<|im_end|>"
    with pytest.raises(InputError, match="changes a question's text"):
        Prompting(chat).text("three")


def test_where_every_digit_is_a_token_each_is_a_number_of_its_own(tokenizer):
    """A number is what one token holds; a longer one is as many numbers as it has digits."""
    vocabulary = build_vocabulary(tokenizer, 264, 259)
    digits = [tokenizer(str(digit))["input_ids"] for digit in range(10)]
    assert all(len(tokens) == 1 for tokens in digits)
    ids = [tokens[0] for tokens in digits]
    assert vocabulary.is_number[ids].all() and vocabulary.has_digit[ids].all()
    assert np.flatnonzero(vocabulary.is_number).tolist() == sorted(ids)
    assert len(set(vocabulary.number_id[ids].tolist())) == 10
    forty_five = tokenizer("45")["input_ids"]
    assert vocabulary.number_id[forty_five].tolist() == vocabulary.number_id[ids][[4, 5]].tolist()


def test_the_files_are_what_transformers_keeps_beside_a_model():
    config = json.loads((FOLDER / "tokenizer_config.json").read_text())
    assert config["pad_token"] == "<|endoftext|>"
    assert (FOLDER / "chat_template.jinja").read_text() == make_chat_tokenizer.TEMPLATE
