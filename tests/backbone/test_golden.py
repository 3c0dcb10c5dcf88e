"""Converted checkpoints against the published architecture's outputs (DESIGN.md, section 12)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from reoac_jax.backbone import load_backbone
from reoac_jax.backbone.pytorch_files import find_source, open_source
from reoac_jax.convert import mdlm_to_flax
from reoac_jax.convert.mdlm_torch import MDLM

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["mdlm_small", "mdlm_small_timecond"])
def golden(request, tmp_path_factory):
    """(folder, expected outputs, the converted model as `tokens, lengths, sigma -> output`)."""
    folder = GOLDEN / request.param
    output = tmp_path_factory.mktemp("converted") / request.param
    assert mdlm_to_flax.main(["--source", str(folder), "--output", str(output)]) == 0
    model, params = load_backbone(output)
    run = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))
    with np.load(folder / "expected.npz") as arrays:
        return folder, dict(arrays), run


def _full_lengths(expected):
    batch, length = expected["input_ids"].shape
    return jnp.full((batch,), length, jnp.int32)


def test_logits_and_hidden_match(golden):
    _, expected, run = golden
    out = run(expected["input_ids"], _full_lengths(expected), expected["sigma"])
    assert np.abs(out.logits - expected["logits"]).max() < TOLERANCE
    assert np.abs(out.hidden - expected["hidden_last"]).max() < TOLERANCE


def test_each_ragged_row_matches_the_row_alone(golden):
    _, expected, run = golden
    out = run(expected["input_ids"], expected["lengths"], expected["sigma"])
    for b, length in enumerate(expected["lengths"]):
        logits, hidden = expected[f"ragged_logits_{b}"], expected[f"ragged_hidden_{b}"]
        assert logits.shape[0] == length
        assert np.abs(out.logits[b, :length] - logits).max() < TOLERANCE
        assert np.abs(out.hidden[b, :length] - hidden).max() < TOLERANCE


def test_padding_and_neighbours_do_not_reach_a_row(golden):
    _, expected, run = golden
    tokens, lengths = expected["input_ids"], expected["lengths"]
    row, length = len(lengths) - 1, lengths[-1]
    changed = (tokens + 1) % 131
    changed[row, :length] = tokens[row, :length]
    before = run(tokens, lengths, expected["sigma"])
    after = run(changed, lengths, expected["sigma"])
    same = before.logits[row, :length], after.logits[row, :length]
    np.testing.assert_allclose(*same, atol=1e-6)
    assert np.abs(before.logits[0] - after.logits[0]).max() > 0.1  # the change did change others


def test_only_a_time_conditioned_model_sees_sigma(golden):
    folder, expected, run = golden
    conditioned = json.loads((folder / "config.json").read_text())["time_conditioning"]
    lengths = _full_lengths(expected)
    outputs = [run(expected["input_ids"], lengths, sigma + expected["sigma"]) for sigma in (0, 1)]
    difference = np.abs(outputs[0].logits - outputs[1].logits).max()
    assert difference > 1e-3 if conditioned else difference == 0


def test_the_torch_reference_itself_reproduces_the_numbers(golden):
    folder, expected, _ = golden
    config, tensors, _ = open_source(find_source(str(folder)))
    sizes = config.to_json()
    del sizes["model_length"]
    model = MDLM(**sizes).eval()
    model.load_state_dict({key: torch.from_numpy(tensors.read(key)) for key in tensors.shapes})
    with torch.inference_mode():
        out = model(
            torch.from_numpy(expected["input_ids"]).long(), torch.from_numpy(expected["sigma"])
        )
    assert np.abs(out.logits.numpy() - expected["logits"]).max() < 1e-5
    assert np.abs(out.hidden.numpy() - expected["hidden_last"]).max() < 1e-5
