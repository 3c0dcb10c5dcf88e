"""Examples on disk: what comes back, how much memory they take, and what is said without room."""

import errno
import os
import threading
import tracemalloc

import numpy as np
import pytest

from reoac_jax.finetuning.evaluation import pad_prompts
from reoac_jax.finetuning.examples import ExampleFile
from reoac_jax.system.errors import InputError
from reoac_jax.tasks.encode import Encoded

GEN_LEN = 5


def encoded(count, seed=0, longest=40):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    prompts = [rng.integers(0, 50_000, length).astype(np.int32) for length in lengths]
    reference = rng.integers(0, 50_000, (count, GEN_LEN)).astype(np.int32)
    return Encoded(prompts, [tokens > 0 for tokens in prompts], reference, 1, 2)


def test_a_batch_holds_its_rows_as_wide_as_they_need():
    chunks = [encoded(count, seed) for seed, count in enumerate((7, 1, 30))]
    prompts = [tokens for chunk in chunks for tokens in chunk.prompt_tokens]
    reference = np.concatenate([chunk.reference for chunk in chunks])
    padded, lengths = pad_prompts(Encoded(prompts, [], reference, 0, 0))
    with ExampleFile(iter(chunks)) as examples:
        assert len(examples) == 38
        assert (examples.prompts_truncated, examples.references_truncated) == (3, 6)
        for rows in ([3], [37, 0, 7, 7], np.random.default_rng(9).permutation(38)):
            batch = examples.batch(np.array(rows))
            width = batch.prompt.shape[1]
            longest = lengths[rows].max()
            assert longest <= width <= max(longest + 7, 8)
            np.testing.assert_array_equal(batch.prompt, padded[rows, :width])
            np.testing.assert_array_equal(batch.prompt_length, lengths[rows])
            np.testing.assert_array_equal(batch.answer, reference[rows])
            assert {array.dtype for array in batch} == {np.dtype(np.int32)}


def test_memory_does_not_grow_with_the_tokens():
    """Of 40 000 examples, 4 MB of tokens, 12 bytes each stay, and their growing arrays' slack."""
    chunk, count = encoded(1000), 40

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with ExampleFile(chunk for _ in range(count)) as examples:
            held = tracemalloc.get_traced_memory()[0] - before
            peak = tracemalloc.get_traced_memory()[1] - before
            assert len(examples) == 40_000
            tokens = 4 * count * (sum(map(len, chunk.prompt_tokens)) + 1000 * GEN_LEN)
    finally:
        tracemalloc.stop()
    assert tokens > 4e6 and held < 20 * len(examples) and peak < tokens / 2


def test_threads_read_without_disturbing_each_other():
    with ExampleFile(iter([encoded(200)])) as examples:
        orders = [np.random.default_rng(seed).permutation(200) for seed in range(4)]
        alone, together = [examples.batch(order) for order in orders], [None] * 4

        def read(place):
            for _ in range(5):
                together[place] = examples.batch(orders[place])

        threads = [threading.Thread(target=read, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one.prompt, other.prompt)


def test_no_room_is_one_line(monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match=r"examples in .* \(No space left .*TMPDIR"):
        ExampleFile(iter([encoded(3)]))
