"""Values of `config.json` that no published model has: each is one line, and soon."""

import json
import shutil
from pathlib import Path

import pytest
from support.converting import refused

from reoac_jax.convert import to_flax

QWEN3 = Path(__file__).resolve().parents[1] / "golden" / "qwen3_small"


@pytest.mark.parametrize(
    "key, text, named",
    [
        ("model_type", "[]", "model_type is []"),
        ("model_type", "{}", "model_type is {}"),
        ("model_type", "null", "model_type is None"),
        ("initializer_range", "Infinity", "initializer_range is inf"),
        ("initializer_range", "[0.0, NaN]", "initializer_range is [0.0, nan]"),
        ("use_cache", "1e400", "use_cache is inf"),
        ("num_hidden_layers", "1" + 6 * "0", "tensors; expected the number of blocks in the file"),
        ("num_hidden_layers", "1" + 30 * "0", "expected a positive integer below 2**31"),
        ("vocab_size", "1" + 30 * "0", "expected a positive integer below 2**31"),
    ],
)
def test_a_value_that_no_model_has_is_one_line(tmp_path, capsys, key, text, named):
    folder = tmp_path / "source"
    shutil.copytree(QWEN3, folder)
    values = json.loads((folder / "config.json").read_text()) | {key: "HERE"}
    (folder / "config.json").write_text(json.dumps(values).replace('"HERE"', text))
    argv = ["--source", folder, "--output", tmp_path / "out"]
    refused(to_flax.main, argv, named, tmp_path, capsys)
