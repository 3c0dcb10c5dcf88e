"""The 11 features: reference numbers, a plain Python computation, and what holds for any row."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from support.plain_features import PlainFeatures
from transformers import AutoTokenizer

from reoac_jax.policy.features import (
    EXTRA_FEATURES,
    FEATURES,
    alignment_features,
    extra_features,
    preview_features,
    preview_names,
    prompt_context,
)
from reoac_jax.policy.vocabulary import build_vocabulary

GOLDEN = Path(__file__).parents[1] / "golden"
ROWS, PROMPT, GENERATED = 500, 9, 14


@functools.partial(jax.jit, static_argnums=7)
def features(
    prompt, lengths, key_mask, generated, previous, has_previous, entropy, temperature, vocabulary
):
    """Batch of rows to float32 [N, 11]."""

    def row(prompt, length, key_mask, *rest):
        context = prompt_context(prompt, length, key_mask, vocabulary)
        return alignment_features(context, *rest, vocabulary, temperature)

    return jax.vmap(row)(prompt, lengths, key_mask, generated, previous, has_previous, entropy)


class PieceTokenizer:
    """Stands for GPT-2's tokenizer where only the pieces that the golden cases use are known."""

    def __init__(self, size: int, eos_id: int, pieces: dict[int, str]):
        self.size, self.eos_token_id, self.all_special_ids = size, eos_id, [eos_id]
        self.pieces, self.pad_token_id = pieces, None  # as GPT-2 has none
        self.backend_tokenizer = self
        self.added_tokens_decoder = {}

    def __len__(self):
        return self.size

    def decode_batch(self, rows, skip_special_tokens):
        return ["".join(self.pieces.get(i, "") for i in row) for row in rows]


def golden_case_features(golden, vocabulary):
    cases = golden["cases"]
    width = max(len(case["prompt_ids"]) for case in cases)

    def padded(name, dtype):
        rows = [case[name] + [0] * (width - len(case[name])) for case in cases]
        return np.array(rows, dtype)

    previous = [case["prev_gen_ids"] for case in cases]
    got = features(
        padded("prompt_ids", np.int32),
        np.array([len(case["prompt_ids"]) for case in cases], np.int32),
        padded("key_mask", bool),
        np.array([case["gen_ids"] for case in cases], np.int32),
        np.array([p or case["gen_ids"] for p, case in zip(previous, cases, strict=True)], np.int32),
        np.array([p is not None for p in previous]),
        np.array([case["entropy"] for case in cases], np.float32),
        1.0,
        jax.tree.map(jnp.asarray, vocabulary),
    )
    return got, np.array([case["features"] for case in cases])


@pytest.fixture(scope="module")
def golden():
    return json.loads((GOLDEN / "features.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pieces():
    text = (GOLDEN / "features_vocabulary.json").read_text(encoding="utf-8")
    return {int(i): piece for i, piece in json.loads(text).items()}


@pytest.mark.parity
def test_reference_numbers(golden, pieces):
    tokenizer = PieceTokenizer(golden["vocab_size"] - 1, golden["eos_id"], pieces)
    got, expected = golden_case_features(
        golden, build_vocabulary(tokenizer, golden["vocab_size"], golden["vocab_size"] - 1)
    )
    assert tuple(golden["feature_names"]) == FEATURES
    assert {case["prev_gen_ids"] is None for case in golden["cases"]} == {True, False}
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parity
def test_reference_numbers_with_the_tokenizer(golden, pieces, shared_data):
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "gpt2")
    assert pieces == {i: tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in pieces}
    got, expected = golden_case_features(
        golden, build_vocabulary(tokenizer, golden["vocab_size"], golden["vocab_size"] - 1)
    )
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def rows():
    """Random rows of the toy world; few tokens a row, so that texts meet."""
    rng = np.random.default_rng(0)
    prompt = np.zeros((ROWS, PROMPT), np.int32)
    generated = np.zeros((ROWS, GENERATED), np.int32)
    previous = np.zeros((ROWS, GENERATED), np.int32)
    for i in range(ROWS):
        known = rng.choice(np.arange(1, toy.VOCAB_SIZE), rng.integers(2, 8), replace=False)
        prompt[i] = rng.choice(known, PROMPT)
        generated[i] = rng.choice(np.append(known, toy.MASK_ID), GENERATED)
        previous[i] = rng.choice(np.append(known, toy.MASK_ID), GENERATED)
        for row in (generated[i], previous[i]):
            if rng.random() < 0.5:
                row[rng.integers(0, GENERATED)] = toy.EOS_ID
    return dict(
        prompt=prompt,
        lengths=rng.integers(1, PROMPT + 1, ROWS).astype(np.int32),
        key_mask=rng.random((ROWS, PROMPT)) < rng.choice([0.0, 0.3, 0.7], (ROWS, 1)),
        generated=generated,
        previous=previous,
        has_previous=rng.random(ROWS) < 0.8,
        entropy=rng.uniform(0, np.log(toy.VOCAB_SIZE), (ROWS, GENERATED)).astype(np.float32),
    )


def run(rows, temperature=1.0, **changes):
    values = rows | changes
    return np.asarray(features(*values.values(), temperature, toy.vocabulary()))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_features_equal_a_plain_computation(rows, temperature):
    tokenizer = toy.tokenizer()
    special = frozenset([*tokenizer.all_special_ids, toy.MASK_ID])
    plain = PlainFeatures(
        text=lambda i: "" if i in special else toy.WORDS[i],
        decode=lambda ids: tokenizer.decode(ids, clean_up_tokenization_spaces=False),
        special=special,
        eos_id=toy.EOS_ID,
        vocab_size=toy.VOCAB_SIZE,
        temperature=temperature,
    )
    expected = []
    for prompt, length, key_mask, generated, previous, has_previous, entropy in zip(
        *rows.values(), strict=True
    ):
        expected.append(
            plain(
                prompt[:length].tolist(), key_mask[:length], generated.tolist(),
                previous.tolist() if has_previous else None, entropy.tolist(),
            )
        )  # fmt: skip
    expected = np.array(expected)
    # On both sides of each branch, or the comparison would say little.
    assert ((expected == 0).any(axis=0) & (expected > 0).any(axis=0)).all()
    np.testing.assert_allclose(run(rows, temperature), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_features_are_finite_and_in_range(rows, temperature):
    got = dict(zip(FEATURES, run(rows, temperature).T, strict=True))
    upper = dict.fromkeys(FEATURES, 1.0)
    upper |= {"prompt_entropy_mean": np.log(PROMPT), "prompt_entropy_p90": np.log(PROMPT)}
    upper |= {"suspect_mean": 2.0, "suspect_p90": 2.0}
    for name, values in got.items():
        assert np.isfinite(values).all(), name
        assert values.min() >= -1e-6 and values.max() <= upper[name] + 1e-6, name
    assert set(got["answer_form_valid"]) == {0.0, 1.0}


def test_padding_of_the_prompt_changes_nothing(rows):
    """Other ids and key marks behind a prompt, and more room for it."""
    rng = np.random.default_rng(1)
    wide = rng.integers(0, toy.VOCAB_SIZE, (ROWS, PROMPT + 6)).astype(np.int32)
    marks = rng.random((ROWS, PROMPT + 6)) < 0.5
    real = np.arange(PROMPT) < rows["lengths"][:, None]
    wide[:, :PROMPT] = np.where(real, rows["prompt"], wide[:, :PROMPT])
    marks[:, :PROMPT] = np.where(real, rows["key_mask"], marks[:, :PROMPT])
    got = run(rows, prompt=wide, key_mask=marks)
    np.testing.assert_allclose(got, run(rows), atol=1e-6, rtol=0)


def test_tokens_after_the_end_change_nothing(rows):
    rng = np.random.default_rng(2)
    generated = rows["generated"].copy()
    generated[:, 5] = toy.EOS_ID
    other = generated.copy()
    other[:, 6:] = rng.integers(0, toy.VOCAB_SIZE, (ROWS, GENERATED - 6))
    np.testing.assert_array_equal(run(rows, generated=generated), run(rows, generated=other))


def test_no_valid_token_gives_zeros(rows):
    none = np.full((ROWS, GENERATED), toy.MASK_ID, np.int32)
    ended = rows["generated"].copy()
    ended[:, 0] = toy.EOS_ID
    none[ROWS // 2 :] = ended[ROWS // 2 :]
    np.testing.assert_array_equal(run(rows, generated=none), 0.0)


def test_extra_features():
    rng = np.random.default_rng(3)
    masked = rng.random((40, GENERATED)) < 0.4
    masked[0], masked[1] = False, True
    confidence = rng.random((40, GENERATED)).astype(np.float32)
    entropy = rng.uniform(0, 5, (40, GENERATED)).astype(np.float32)
    progress = rng.random(40).astype(np.float32)
    got = jax.vmap(extra_features, (0, 0, 0, 0, None))(progress, masked, confidence, entropy, 300)
    expected = []
    for share, row, conf, entr in zip(progress, masked, confidence, entropy, strict=True):
        some = row.any()
        expected.append([
            share, row.sum() / GENERATED, conf[row].mean() if some else 0,
            conf[row].max() if some else 0, entr[row].max() / np.log(300) if some else 0,
        ])  # fmt: skip
    assert got.shape == (40, len(EXTRA_FEATURES))
    np.testing.assert_allclose(got, np.array(expected), atol=1e-6, rtol=0)


def test_preview_features():
    rng = np.random.default_rng(4)
    reveals = rng.random((40, 5, GENERATED)) < 0.3
    reveals[0] = False
    confidence, past = rng.random((2, 40, GENERATED)).astype(np.float32)
    past[1] = 0.0  # never measured
    written = rng.random((40, GENERATED)) < 0.5
    written[0], written[1] = False, True
    got = jax.vmap(preview_features)(reveals, confidence, written, past)
    assert got.shape == (40, len(preview_names(toy.ORIGINAL))) and np.isfinite(got).all()
    for row, would, sure, old, then in zip(got, reveals, confidence, written, past, strict=True):
        shares, means, least = np.reshape(row[:15], (3, 5))
        for a in range(5):
            own = sure[would[a]].astype(np.float64)
            np.testing.assert_allclose(shares[a], would[a].sum() / GENERATED, atol=1e-6)
            np.testing.assert_allclose(means[a], own.mean() if len(own) else 1.0, atol=1e-6)
            np.testing.assert_allclose(least[a], own.min() if len(own) else 1.0, atol=1e-6)
        logs = np.log(np.maximum(then[old].astype(np.float64), 1e-6)).sum() / GENERATED
        np.testing.assert_allclose(row[15], logs, atol=1e-5)
        np.testing.assert_allclose(row[16], then[old].min(initial=1.0), atol=1e-6)
