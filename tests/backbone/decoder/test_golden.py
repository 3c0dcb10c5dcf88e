"""The decoders against the outputs of LLaDA's, Dream's and Qwen3's published code."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from reoac_jax.backbone.architectures import architecture, build
from reoac_jax.backbone.decoder.torch_reference import FullAttention
from reoac_jax.backbone.published import check_layout, from_flax, to_flax, weights
from reoac_jax.backbone.pytorch_files import find_source, open_source

pytestmark = pytest.mark.parity

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
TOLERANCE = 1e-4


@functools.cache
def load(name, dtype=jnp.float32):
    """(model, parameters, expected outputs) of a golden folder."""
    folder = GOLDEN / name
    config, tensors, _ = open_source(find_source(str(folder)))
    check_layout(config, tensors, str(folder))
    params = to_flax(config, tensors, np.dtype(dtype))
    with np.load(folder / "expected.npz") as arrays:
        return build(config, dtype=dtype), params, dict(arrays)


@pytest.fixture(scope="module", params=["qwen3_small", "llada_small", "dream_small"])
def golden(request):
    return load(request.param)


@functools.partial(jax.jit, static_argnums=0)
def forward(model, params, tokens, lengths):
    """Hidden states and the file's own, unshifted logits of whole rows."""
    return model.apply({"params": params}, tokens, lengths)


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
    changed = tokens.copy()  # what a program was given may still be read
    changed[:, -1] = (tokens[:, -1] + 1) % 290
    after, _ = forward(model, params, changed, full(expected))
    assert (np.abs(before[:, 0] - after[:, 0]).max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize("name,shift", [("qwen3_small", 0), ("llada_small", 0), ("dream_small", 1)])
def test_a_positions_logits_come_from_the_place_that_the_family_keeps_them(name, shift):
    """Dream's stand one to the left, those of position 0 at 0; the others' where they belong."""
    model, params, expected = load(name)
    assert model.spec.reads_left == bool(shift)
    first = np.array([0, 5, 1])

    @jax.jit
    def generated_logits(params):
        variables = {"params": params}
        prepared = model.prepare(variables)
        hidden = model.hidden(variables, expected["input_ids"], full(expected), prepared)
        return model.logits(variables, model.generated(hidden, first, 19), prepared)

    logits = generated_logits(params)
    for b, start in enumerate(first):
        for i in range(19):
            theirs = expected["logits"][b, max(start + i - shift, 0)]
            assert np.abs(logits[b, i] - theirs).max() < TOLERANCE


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
    _, tensors, _ = open_source(find_source(str(GOLDEN / name)))
    paths = {weight.key: weight.path for weight in weights(model.config)}
    reference = FullAttention(model.config, paths, tensors, torch.bfloat16)
    theirs = [np.zeros_like(part) for part in ours]
    with torch.inference_mode():
        for b, n in enumerate(lengths):
            row = reference(torch.from_numpy(expected["input_ids"][b : b + 1, :n]).long())
            for whole, part in zip(theirs, row, strict=True):
                whole[b, :n] = part[0].float().numpy()

    def error(outputs):
        """Mean absolute difference of logits and of hidden states, over the real positions."""
        found = np.zeros(2)
        for i, kind in enumerate(("logits", "hidden")):
            found[i] = np.mean([
                np.abs(np.asarray(outputs[i][b, :n]) - expected[f"ragged_{kind}_{b}"]).mean()
                for b, n in enumerate(lengths)
            ])  # fmt: skip
        return found

    assert (error(ours) <= error(theirs)).all()
    assert (error(ours) > 1e-4).all()  # bfloat16 was in use


@pytest.mark.parametrize("name", ["qwen3_small", "llada_small", "dream_small"])
def test_a_16_bit_model_rotates_in_the_format_that_its_family_was_trained_with(name):
    """LLaDA in float32, with one rounding at the end; the others in their own, tables and all.

    The first block's key depends on the token and the position alone, and at position 0 is not
    rotated: with one token everywhere, that key is what all the others are rotations of.
    """
    model, params, _ = load(name, jnp.bfloat16)
    rows, lengths = np.full((1, 24), 7, np.int32), np.array([24], np.int32)

    @jax.jit
    def kept(params):
        variables = {"params": params}
        return model.hidden_and_kept(variables, rows, lengths, model.prepare(variables))[1]

    keys = np.asarray(kept(params).keys[0][0]).astype(np.float64)
    half = model.config.head_dim // 2
    angle = np.arange(24)[:, None, None] * model.config.rope_theta ** (-np.arange(half) / half)
    first, second = keys[0, :, :half], keys[0, :, half:]
    exact = np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle),
         second * np.cos(angle) + first * np.sin(angle)], axis=-1,
    )  # fmt: skip
    one_rounding = 2.0**-8 * np.abs(exact) + 1e-5 * np.abs(exact).max()
    assert (np.abs(keys - exact) <= one_rounding).all() == (name == "llada_small")
    assert (np.abs(keys - exact) <= 8 * 2.0**-8 * np.abs(exact).max()).all()


@pytest.mark.parametrize("name", ["qwen3_small", "llada_small", "dream_small"])
def test_the_torch_reference_itself_reproduces_the_numbers(name):
    config, tensors, _ = open_source(find_source(str(GOLDEN / name)))
    _, _, expected = load(name)
    with torch.inference_mode():
        out = architecture(config).reference(config, tensors)(
            torch.from_numpy(expected["input_ids"]).long()
        )
    assert np.abs(out.logits.numpy() - expected["logits"]).max() < TOLERANCE / 2
    assert np.abs(out.hidden.numpy() - expected["hidden"]).max() < TOLERANCE / 2


@pytest.mark.parametrize("name", ["qwen3_small", "llada_small", "dream_small"])
def test_there_and_back_is_bit_identical(name):
    model, params, _ = load(name)
    stored = load_file(GOLDEN / name / "model.safetensors")
    back = from_flax(model.config, params)
    assert back.keys() == stored.keys()
    for key, value in back.items():
        np.testing.assert_array_equal(value, stored[key])


def test_what_is_cast_for_compute_gives_the_same_numbers(golden):
    model, params, expected = golden
    model = model.clone(dtype=jnp.bfloat16)
    cast = model.cast_for_compute(params)
    assert cast["embed"]["embedding"].dtype == jnp.bfloat16
    assert cast["final_norm"]["scale"].dtype == np.float32
    outputs = [
        forward(model, tree, expected["input_ids"], full(expected)) for tree in (params, cast)
    ]
    np.testing.assert_array_equal(outputs[0].logits, outputs[1].logits)
    # Nothing is copied that is as it must be.
    cast = jax.tree.map(jnp.asarray, cast)
    again = model.cast_for_compute(cast)
    assert jax.tree.all(jax.tree.map(lambda x, y: x is y, again, cast))
