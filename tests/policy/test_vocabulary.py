"""The lookup tables: each entry against its definition on the token's decoded text."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from reoac_jax.policy.features import FEATURES, alignment_features, prompt_context
from reoac_jax.policy.vocabulary import build_vocabulary
from reoac_jax.system.errors import InputError
from reoac_jax.tasks.tokenizer import load_tokenizer

NUMBER = r"[+-]?(\d+\.\d+|\d+|\d+/\d+)%?"
GPT2_SIZE = 50_258


@functools.cache
def gpt2(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, build_vocabulary(tokenizer, GPT2_SIZE, GPT2_SIZE - 1)


@pytest.fixture(params=["toy", "gpt2"])
def tables(request):
    """(tokenizer, tables, V, special ids)."""
    if request.param == "toy":
        tokenizer, size = toy.tokenizer(), toy.VOCAB_SIZE
        return tokenizer, build_vocabulary(tokenizer, size, size - 1), size, {0, 1, toy.MASK_ID}
    tokenizer, vocabulary = gpt2(request.getfixturevalue("shared_data") / "gpt2")
    return tokenizer, vocabulary, GPT2_SIZE, {GPT2_SIZE - 2, GPT2_SIZE - 1}


def assert_partition(ids, keys):
    """Equal ids exactly where keys are equal; -1 exactly where the key is None."""
    pairs = set(zip(ids.tolist(), keys, strict=True))
    assert len(pairs) == len(set(ids.tolist())) == len(set(keys))
    assert [i == -1 for i in ids] == [key is None for key in keys]


def test_tables_equal_their_definitions(tables):
    tokenizer, vocabulary, size, special = tables
    texts = [
        "" if i in special else tokenizer.decode([i], clean_up_tokenization_spaces=False).strip()
        for i in range(size)
    ]
    assert all(len(table) == size for table in vocabulary if table is not None)
    assert_partition(vocabulary.text_id, texts)
    assert_partition(vocabulary.folded_id, [text.casefold() for text in texts])
    found = [re.search(NUMBER, text) for text in texts]
    assert_partition(vocabulary.number_id, [f and f.group() for f in found])
    flags = {
        "is_number": [bool(re.fullmatch(NUMBER, text)) for text in texts],
        "has_digit": [any(c.isdecimal() for c in text) for text in texts],
        "is_operator": [any(c in "+-*/=<>&^_" for c in text) for text in texts],
        "is_special": [i in special for i in range(size)],
        "is_eos": [i == tokenizer.eos_token_id for i in range(size)],
        "is_blank": [not text for text in texts],
    }
    for name, expected in flags.items():
        np.testing.assert_array_equal(getattr(vocabulary, name), expected, err_msg=name)
        assert any(expected) and not all(expected)


def test_toy_examples():
    vocabulary = build_vocabulary(toy.tokenizer(), toy.VOCAB_SIZE, toy.MASK_ID)

    def of(name, word):
        return getattr(vocabulary, name)[toy.WORDS.index(word)]

    assert of("folded_id", "apple") == of("folded_id", "Apple")
    assert of("text_id", "apple") != of("text_id", "Apple")
    assert of("number_id", "x1") == of("number_id", "1") and not of("is_number", "x1")
    assert of("number_id", "7%") != of("number_id", "3.5")
    assert of("is_operator", "a=b") and not of("is_operator", "3.5")


@functools.partial(jax.jit, static_argnums=2)
def last_word_holds_number(tokens, vocabulary, prompt_token):
    """Feature 9 of generated tokens [N, G]."""
    prompt = jnp.full(1, prompt_token, jnp.int32)
    context = prompt_context(prompt, jnp.int32(1), jnp.zeros(1, bool), vocabulary)

    def row(tokens):
        entropy = jnp.zeros(tokens.shape)
        return alignment_features(context, tokens, tokens, False, entropy, vocabulary, 1.0)

    return jax.vmap(row)(tokens)[:, FEATURES.index("answer_form_valid")]


@pytest.mark.slow
def test_last_word_equals_that_of_the_decoded_text(shared_data):
    """GPT-2 joins pieces without spaces: a word may span tokens, and white space be anywhere."""
    tokenizer, vocabulary = gpt2(shared_data / "gpt2")
    rng = np.random.default_rng(0)
    texts = [tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in range(50_256)]
    whole = [i for i, text in enumerate(texts) if "\ufffd" not in text]  # no part of a character

    def those(condition):
        return np.array([i for i in whole if condition(texts[i])])

    groups = [
        those(lambda t: not t.strip()),
        those(lambda t: re.fullmatch(r"\d+", t)),
        those(lambda t: re.fullmatch(r" \d+", t)),
        those(lambda t: re.search(r"\d", t) and re.search(r"\D", t)),
        those(lambda t: re.fullmatch(r"[a-z]+", t)),
        those(lambda t: re.fullmatch(r"[^\w\s]+", t)),
        np.array(whole),
        np.array([GPT2_SIZE - 1]),
    ]
    assert all(len(group) for group in groups)
    share = np.array([3, 2, 1, 1, 3, 2, 2, 3])
    picks = rng.choice(len(groups), (3000, 7), p=share / share.sum())
    tokens = np.array([[rng.choice(groups[g]) for g in row] for row in picks], np.int32)
    expected = []
    for row in tokens:
        text = tokenizer.decode(row[row < 50_256], clean_up_tokenization_spaces=False)
        words = text.split()
        expected.append(bool(words) and re.search(NUMBER, words[-1]) is not None)
    assert 0.2 < np.mean(expected) < 0.8
    got = last_word_holds_number(tokens, jax.tree.map(jnp.asarray, vocabulary), whole[0])
    wrong = np.flatnonzero(np.asarray(got) != np.array(expected))
    assert not len(wrong), [[texts[i] for i in tokens[w] if i < 50_256] for w in wrong[:3]]


def test_last_word_where_tokens_hold_white_space_within():
    """GPT-2 has no token of several words; a tokenizer found beside the weights may."""
    pieces = ["<eos>", "ab", "1", "a 1", "1 a", "2 ", "b ", " ", " 3", "c\n", "4 d ", "5\t6", "-"]
    model = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}))
    model.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<eos>")
    vocabulary = jax.tree.map(
        jnp.asarray, build_vocabulary(tokenizer, len(pieces) + 1, len(pieces))
    )
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, len(pieces) + 1, (2000, 5)).astype(np.int32)
    expected = []
    for row in tokens:
        words = "".join(pieces[i] for i in row if i < len(pieces)).split()
        expected.append(bool(words) and re.search(NUMBER, words[-1]) is not None)
    np.testing.assert_array_equal(last_word_holds_number(tokens, vocabulary, 1), expected)


def test_mask_and_unknown_ids_are_special_and_empty():
    """A model may have more ids than its tokenizer: all of them but the last are never used."""
    size = len(toy.WORDS) + 4
    vocabulary = build_vocabulary(toy.tokenizer(), size, size - 1)
    extra = slice(len(toy.WORDS), size)
    assert vocabulary.is_special[extra].all() and vocabulary.is_blank[extra].all()
    assert len(set(vocabulary.text_id[extra].tolist())) == 1
    assert (vocabulary.number_id[extra] == -1).all()
    assert not vocabulary.is_special[2 : len(toy.WORDS)].any()


def test_a_tokenizer_that_knows_the_mask():
    """The mask is the model's last id, whatever text the tokenizer has for it."""
    vocabulary = build_vocabulary(toy.tokenizer(), len(toy.WORDS), len(toy.WORDS) - 1)
    assert vocabulary.is_special[-1] and vocabulary.is_blank[-1]
    full_stop = build_vocabulary(toy.tokenizer(), toy.VOCAB_SIZE, toy.MASK_ID)
    assert not full_stop.is_special[len(toy.WORDS) - 1]


def test_tokenizer_larger_than_the_model():
    with pytest.raises(InputError, match=f"{len(toy.WORDS)} tokens .* vocabulary has"):
        build_vocabulary(toy.tokenizer(), len(toy.WORDS) - 1, len(toy.WORDS) - 2)


def test_load_tokenizer_from_its_two_sources(tmp_path):
    toy.tokenizer().save_pretrained(tmp_path / "tokenizer")
    beside = load_tokenizer("auto", "never read", str(tmp_path))
    named = load_tokenizer("mdlm", str(tmp_path / "tokenizer"), "never read")
    for tokenizer in (beside, named):
        assert tokenizer.get_vocab() == toy.tokenizer().get_vocab()
        assert tokenizer.eos_token_id == toy.EOS_ID


def test_load_tokenizer_from_gpt2_files(shared_data):
    assert len(load_tokenizer("mdlm", str(shared_data / "gpt2"), "")) == GPT2_SIZE - 1


def _nothing(folder):
    return "no tokenizer"


def _empty_folder(folder):
    folder.mkdir()
    return "no tokenizer"


def _broken_file(folder):
    toy.tokenizer().save_pretrained(folder)
    (folder / "tokenizer.json").write_text('{"model": 3}', encoding="utf-8")
    return "no tokenizer"


def _without_eos(folder):
    model = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=model).save_pretrained(folder)
    return "no eos token"


@pytest.mark.parametrize("make", [_nothing, _empty_folder, _broken_file, _without_eos])
@pytest.mark.parametrize("source", ["auto", "mdlm"])
def test_load_tokenizer_refuses(tmp_path, monkeypatch, make, source):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "tokenizer"
    message = make(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_tokenizer(source, str(folder), str(tmp_path))
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
