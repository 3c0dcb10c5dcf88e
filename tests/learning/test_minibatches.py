"""Minibatches of like length: a partition, in random order, with little padding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reoac_jax.backbone.prediction import prompt_width
from reoac_jax.learning.minibatches import like_length
from reoac_jax.tasks.tokenizer import load_tokenizer

GEN_LEN = 64


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 256), min_size=1, max_size=200),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_every_transition_is_in_one_minibatch(lengths, count, seed):
    lengths = np.array(lengths * count)
    batches = like_length(lengths, count, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert {len(batch) for batch in batches} == {len(lengths) // count}
    # No length lies inside the range of two of them.
    ends = sorted((lengths[batch].min(), lengths[batch].max()) for batch in batches)
    assert all(a[1] <= b[0] for a, b in zip(ends, ends[1:], strict=False))


def test_prompts_of_one_length_stay_as_they_were_drawn():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    batches = like_length(np.full(12, 6), 3, rng)
    assert np.array_equal(np.stack(batches), np.arange(12).reshape(3, 4))
    assert rng.bit_generator.state == before


def test_order_of_minibatches_is_random():
    """A minibatch of short rows is as often the first as the last."""
    rng = np.random.default_rng(0)
    first = [like_length(np.arange(40), 4, rng)[0][0] // 10 for _ in range(2000)]
    assert np.bincount(first, minlength=4) == pytest.approx(500, abs=5 * 500**0.5)


@pytest.fixture(scope="module")
def gsm8k_lengths(shared_data):
    import json

    tokenizer = load_tokenizer("mdlm", str(shared_data / "gpt2"), "")
    lines = (shared_data / "gsm8k" / "train.jsonl").read_text().splitlines()
    ids = tokenizer([json.loads(line)["question"] for line in lines])["input_ids"]
    return np.array([len(row) for row in ids])


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "most"), [(16, 0.10), (8, 0.09)])
def test_padding_at_gsm8ks_lengths(gsm8k_lengths, rows, most):
    """configs/gsm8k.py draws 8 minibatches of 16; what 8 of 8 cost was 26 % padding."""
    rng, count = np.random.default_rng(1), 8
    needed = sorted_cost = drawn_cost = 0
    widths = set()
    for _ in range(300):
        lengths = rng.choice(gsm8k_lengths, rows * count)
        needed += (lengths + GEN_LEN).sum()
        for places in like_length(lengths, count, rng):
            width = prompt_width(int(lengths[places].max()))
            widths.add(width)
            sorted_cost += (width + GEN_LEN) * rows
        for part in np.split(lengths, count):
            drawn_cost += (prompt_width(int(part.max())) + GEN_LEN) * rows
    assert round(1 - needed / sorted_cost, 3) <= most
    assert sorted_cost <= 0.85 * drawn_cost
    assert len(widths) <= 20
