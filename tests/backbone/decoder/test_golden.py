"""The decoders against the outputs of LLaDA's, Dream's and Qwen3's published code."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support import torch_decoder

from reoac_jax.backbone.decoder.families import read_decoder_config
from reoac_jax.backbone.decoder.model import Decoder
from reoac_jax.backbone.decoder.published import check_layout, from_flax, to_flax, tree
from reoac_jax.backbone.pytorch_files import SafetensorsFile

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
TOLERANCE = 1e-4
MASK_ID = 297  # in the tokenizer of qwen3_small, in the others' config.json


def load(name, dtype=jnp.float32):
    """(model, parameters, expected outputs) of a golden folder."""
    folder = GOLDEN / name
    values = json.loads((folder / "config.json").read_text())
    config = read_decoder_config(values, mask_id=MASK_ID)
    tensors = SafetensorsFile(folder / "model.safetensors")
    check_layout(config, tensors, str(folder))
    params = tree(to_flax(config, tensors, np.dtype(dtype)))
    with np.load(folder / "expected.npz") as arrays:
        return Decoder(config, dtype=dtype), params, dict(arrays)


@pytest.fixture(scope="module", params=["qwen3_small", "llada_small", "dream_small"])
def golden(request):
    return load(request.param)


def forward(model, params, tokens, lengths):
    """Hidden states and the file's own, unshifted logits of whole rows."""

    @jax.jit
    def run(params, tokens, lengths):
        hidden = model.apply({"params": params}, tokens, lengths, method="trunk")
        return model.apply({"params": params}, hidden, method="logits"), hidden

    return run(params, tokens, lengths)


def full(expected):
    batch, length = expected["input_ids"].shape
    return np.full((batch,), length, np.int32)


def test_logits_and_hidden_match(golden):
    model, params, expected = golden
    logits, hidden = forward(model, params, expected["input_ids"], full(expected))
    assert logits.shape == expected["logits"].shape
    assert np.abs(logits - expected["logits"]).max() < TOLERANCE
    assert np.abs(hidden - expected["hidden"]).max() < TOLERANCE


def test_each_ragged_row_matches_the_row_alone(golden):
    model, params, expected = golden
    logits, hidden = forward(model, params, expected["input_ids"], expected["lengths"])
    for b, length in enumerate(expected["lengths"]):
        assert expected[f"ragged_logits_{b}"].shape[0] == length
        assert np.abs(logits[b, :length] - expected[f"ragged_logits_{b}"]).max() < TOLERANCE
        assert np.abs(hidden[b, :length] - expected[f"ragged_hidden_{b}"]).max() < TOLERANCE


def test_padding_and_neighbours_do_not_reach_a_row(golden):
    model, params, expected = golden
    tokens, lengths = expected["input_ids"], expected["lengths"]
    row, length = len(lengths) - 1, lengths[-1]
    changed = (tokens + 1) % 300
    changed[row, :length] = tokens[row, :length]
    before, _ = forward(model, params, tokens, lengths)
    after, _ = forward(model, params, changed, lengths)
    np.testing.assert_allclose(before[row, :length], after[row, :length], atol=1e-6)
    assert np.abs(before[0] - after[0]).max() > 0.1  # the change did change others


def test_later_tokens_reach_earlier_positions(golden):
    """No causal mask is left: the last real token changes the first position."""
    model, params, expected = golden
    tokens = np.array(expected["input_ids"])
    before, _ = forward(model, params, tokens, full(expected))
    tokens[:, -1] = (tokens[:, -1] + 1) % 290
    after, _ = forward(model, params, tokens, full(expected))
    assert (np.abs(before[:, 0] - after[:, 0]).max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize("name,shift", [("qwen3_small", 0), ("llada_small", 0), ("dream_small", 1)])
def test_the_output_holds_each_positions_own_logits(name, shift):
    """Dream's stand one to the left, those of position 0 at 0; the others' where they belong."""
    model, params, expected = load(name)
    out = model.apply({"params": params}, expected["input_ids"], full(expected))
    length = expected["input_ids"].shape[1]
    for i in range(length):
        theirs = expected["logits"][:, max(i - shift, 0)]
        assert np.abs(out.logits[:, i] - theirs).max() < TOLERANCE
    assert np.abs(out.hidden - expected["hidden"]).max() < TOLERANCE  # never shifted


@pytest.mark.parametrize("name", ["qwen3_small", "llada_small", "dream_small"])
def test_bfloat16_stays_within_its_rounding(name):
    """No further from float32's outputs than PyTorch's own bfloat16 forward, which rounds more.

    Ours keeps norms, softmax and the residual stream in float32; PyTorch's rounds them too. The
    mean difference is compared: the largest of thousands is chance.
    """
    model, params, expected = load(name, jnp.bfloat16)
    lengths = expected["lengths"]
    ours = forward(model, params, expected["input_ids"], lengths)
    assert all(part.dtype == jnp.float32 for part in ours)
    values = json.loads((GOLDEN / name / "config.json").read_text())
    reference = torch_decoder.build(values, load_file(GOLDEN / name / "model.safetensors"))
    theirs = torch_decoder.forward(reference, expected["input_ids"], lengths, torch.bfloat16)

    def error(outputs):
        """Mean absolute difference of logits and of hidden states, over the real positions."""
        found = np.zeros(2)
        for i, kind in enumerate(("logits", "hidden")):
            found[i] = np.mean([
                np.abs(np.asarray(outputs[i][b, :n]) - expected[f"ragged_{kind}_{b}"]).mean()
                for b, n in enumerate(lengths)
            ])  # fmt: skip
        return found

    print(name, error(ours), error(theirs))
    assert (error(ours) <= error(theirs)).all()
    assert (error(ours) > 1e-4).all()  # bfloat16 was in use


@pytest.mark.parametrize("name", ["qwen3_small", "llada_small", "dream_small"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_there_and_back_is_bit_identical_in_the_stored_format(name, dtype, tmp_path):
    model, params, _ = load(name, np.dtype(dtype))
    stored = load_file(GOLDEN / name / "model.safetensors")
    back = {weight.key: value for weight, value in from_flax(model.config, params)}
    assert back.keys() == stored.keys()
    for key, value in back.items():
        assert value.dtype == dtype and value.flags.c_contiguous
        np.testing.assert_array_equal(value, stored[key].astype(dtype))


def test_our_tree_is_the_one_the_module_initialises(golden):
    model, params, expected = golden
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), expected["input_ids"], expected["lengths"])
    )
    ours = jax.tree.map(lambda x: x.shape, params)
    assert ours == jax.tree.map(lambda x: x.shape, shapes["params"])
