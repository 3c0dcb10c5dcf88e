"""What keeps freed memory, and what its one arena asks of others."""

import os

import pytest

from reoac_jax.devices.cpu import keep_freed_memory


@pytest.mark.parametrize("wanted", [None, "true"])
def test_the_tokenizer_uses_one_thread_unless_told_otherwise(monkeypatch, wanted):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    if wanted is not None:
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", wanted)
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")
    assert os.environ["TOKENIZERS_PARALLELISM"] == (wanted or "false")
