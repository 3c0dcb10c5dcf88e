"""The bytes that `scripts/model_memory.py` computes, against a published file's tensors by hand."""

import importlib
import json
import os
from pathlib import Path

import jax.numpy as jnp
import pytest
from safetensors.numpy import load_file

from reoac_jax.backbone.architectures import build
from reoac_jax.backbone.pytorch_files import find_source, open_source
from reoac_jax.system.errors import run_command

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "qwen3_small"
LENGTH, GENERATED, RANK = 512, 256, 8


@pytest.fixture
def model_memory(monkeypatch):
    """The script, with the golden model in a published one's place; its environment is its own."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    for name in ("JAX_PLATFORMS", "XLA_FLAGS"):  # what it sets for its process is taken back
        monkeypatch.setenv(name, os.environ.get(name, ""))
    script = importlib.import_module("model_memory")
    monkeypatch.undo()
    config, _, _ = open_source(find_source(str(GOLDEN)))
    monkeypatch.setattr(script, "published_model", lambda _: build(config, dtype=jnp.bfloat16))
    return script


def test_bytes_are_those_of_the_files_tensors(model_memory, tmp_path):
    """Weights in bfloat16; activations, scores, logits and LoRA with its moments in float32."""
    output = tmp_path / "bytes.json"
    argv = ["--architecture", "qwen3", "--only-computed", "--output", str(output)]
    assert model_memory.main([*argv, "--batch", "16", "--devices", "1", "4"]) == 0
    tensors = load_file(GOLDEN / "model.safetensors")
    values = json.loads((GOLDEN / "config.json").read_text())
    attention = [x for key, x in tensors.items() if "self_attn" in key and "_proj" in key]
    assert len(attention) == 4 * values["num_hidden_layers"]
    parameters = sum(x.size for x in tensors.values())
    (record,) = json.loads(output.read_text())["models"]
    assert record["parameters"] == parameters
    assert [(share["devices"], share["rows"]) for share in record["devices"]] == [(1, 16), (4, 4)]
    for share in record["devices"]:
        positions = share["rows"] * LENGTH
        assert share["computed"] == {
            "weights": 2 * parameters,
            "weights_in_parts": 2 * parameters // share["devices"],
            "gathered": 2 * max(x.size for x in tensors.values()),
            # Weights, gradients and two moments, of [in, 8] and [8, out] for each matrix.
            "lora": 4 * 4 * sum(RANK * sum(x.shape) for x in attention),
            "merged": 2 * sum(x.size for x in attention),
            "residuals": 4 * positions * values["hidden_size"] * values["num_hidden_layers"],
            "scores": 4 * positions * values["num_attention_heads"] * LENGTH,
            "logits": 4 * share["rows"] * GENERATED * values["vocab_size"],
        }


def test_devices_that_cannot_share_the_batch_are_refused(model_memory, tmp_path, capsys):
    argv = ["--devices", "3", "--only-computed", "--output", str(tmp_path / "bytes.json")]
    assert run_command(model_memory.main, argv) == 2
    assert "--devices has 3 with --batch 32" in capsys.readouterr().err
