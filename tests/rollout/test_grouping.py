"""Groups of like length: nothing lost, little padding, few shapes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reoac_jax.backbone.prediction import prompt_width
from reoac_jax.rollout.grouping import plan_groups
from reoac_jax.tasks.tokenizer import load_tokenizer

GEN_LEN, LONGEST = 64, 256


def tokens_computed(groups):
    """With every row at work for as long as any other of its group."""
    return sum(-(-len(g.members) // g.slots) * g.slots * (g.width + GEN_LEN) for g in groups)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, LONGEST), min_size=1, max_size=80),
    share=st.integers(1, 16),
    devices=st.sampled_from([1, 2, 3]),
    queued=st.booleans(),
)
def test_groups_hold_every_question_once(lengths, share, devices, queued):
    batch = share * devices
    groups = plan_groups(lengths, GEN_LEN, batch, devices, queued)
    assert sorted(i for group in groups for i in group.members) == list(range(len(lengths)))
    for group in groups:
        assert 1 <= len(group.members) <= group.capacity
        assert group.slots % devices == 0 and group.capacity % group.slots == 0
        assert group.slots <= batch and (queued or group.capacity == group.slots)
        assert group.width == prompt_width(max(lengths[i] for i in group.members))


def test_questions_of_one_length_make_one_group():
    for count in (5, 32, 96):
        (group,) = plan_groups([6] * count, 13, 32, 1, queued=True)
        assert group.slots == min(count, 32) and group.capacity in (count, 128)


def test_widths_are_few():
    widths = {prompt_width(length) for length in range(1, LONGEST + 1)}
    assert len(widths) == 20 and max(widths) == LONGEST
    assert all(prompt_width(length) >= length for length in range(1, 1024))


@pytest.fixture(scope="module")
def gsm8k_lengths(shared_data):
    tokenizer = load_tokenizer("mdlm", str(shared_data / "gpt2"), "")
    lines = (shared_data / "gsm8k" / "train.jsonl").read_text().splitlines()
    rows = tokenizer([json.loads(line)["question"] for line in lines])["input_ids"]
    return np.array([min(len(row), LONGEST) for row in rows])


@pytest.mark.slow
@pytest.mark.parametrize(
    "count, batch, queued, most_shapes", [(32, 32, False, 40), (1319, 32, True, 60)]
)
def test_padding_of_shuffled_gsm8k(gsm8k_lengths, count, batch, queued, most_shapes):
    """An iteration's episodes, and an evaluation: at most 10 % padding over the whole split."""
    order = np.random.default_rng(0).permutation(gsm8k_lengths)
    computed, shapes, real = 0, set(), 0
    for start in range(0, len(order) - count + 1, count):
        lengths = order[start : start + count]
        groups = plan_groups(lengths, GEN_LEN, batch, 1, queued)
        computed += tokens_computed(groups)
        real += (lengths + GEN_LEN).sum()
        shapes |= {(g.width, g.slots, g.capacity) for g in groups}
    assert 1 - real / computed <= 0.10
    assert len(shapes) <= most_shapes <= 16 * 9
