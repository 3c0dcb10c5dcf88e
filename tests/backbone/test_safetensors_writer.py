"""Files written tensor by tensor, against what the safetensors library writes and reads."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from reoac_jax.backbone.safetensors_writer import write_sharded, write_tensors
from reoac_jax.backbone.tensor_files import read_shards

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text("abcdé.0123", min_size=1, max_size=6),
        st.lists(st.integers(0, 4), max_size=3),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
def test_a_file_is_byte_for_byte_the_librarys(tmp_path_factory, shapes, dtype, seed):
    folder = tmp_path_factory.mktemp("file")
    rng = np.random.default_rng(seed)
    tensors = {key: rng.standard_normal(shape).astype(dtype) for key, shape in shapes.items()}
    write_tensors(folder / "ours", tensors)
    safetensors.numpy.save_file(tensors, folder / "theirs", metadata={"format": "pt"})
    assert (folder / "ours").read_bytes() == (folder / "theirs").read_bytes()


def test_shards_keep_to_the_limit_and_read_back(tmp_path):
    rng = np.random.default_rng(0)
    sizes = [3, 5, 20, 1, 1, 4, 6]
    tensors = {f"k{i}": rng.standard_normal(n).astype(np.float32) for i, n in enumerate(sizes)}
    files = write_sharded(tmp_path, "model.safetensors", tensors, limit=40)
    assert [file.name for file in files] == [
        f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)
    ]
    held = [list(safetensors.numpy.load_file(file)) for file in files]
    assert held == [["k0", "k1"], ["k2"], ["k3", "k4", "k5"], ["k6"]]  # k2 is over it by itself
    index = tmp_path / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    assert values["metadata"] == {"total_size": 4 * sum(sizes)}
    found, shards = read_shards(index)
    assert shards == tuple(files) and dict(found.shapes) == {k: v.shape for k, v in tensors.items()}
    for key, value in tensors.items():
        np.testing.assert_array_equal(found.read(key), value)


@pytest.mark.parametrize("limit", [112, 10**9])
def test_what_fits_is_one_file_without_an_index(tmp_path, limit):
    tensors = {"a": np.zeros((4, 7), np.float32)}
    assert write_sharded(tmp_path, "model.safetensors", tensors, limit) == [
        tmp_path / "model.safetensors"
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
