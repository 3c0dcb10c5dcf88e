"""The decoders at random sizes against `transformers`' Qwen3, Qwen2 and Llama with a full mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reoac_jax.backbone.architectures import architecture, architecture_of, build
from reoac_jax.backbone.published import to_flax, weights

pytestmark = pytest.mark.parity
# Each size is a program of its own, run once: what it computes, not how fast, is compared.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


def read_config(values):
    return architecture_of(values, "config.json").read_config(values, "config.json")


class Arrays:
    """Arrays by published key as a `TensorFile`."""

    def __init__(self, state):
        self.state = state
        self.shapes = {key: value.shape for key, value in state.items()}
        self.dtypes = {key: value.dtype.name for key, value in state.items()}

    def read(self, key):
        return self.state[key]

    def place(self, key):
        return f"an array: key {key}"


@st.composite
def published_configs(draw):
    """A `config.json` of any family, at any small size."""
    model_type = draw(st.sampled_from(["llada", "Dream", "a2d-qwen2", "a2d-qwen3"]))
    kv_heads, share = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    heads = kv_heads * share
    width = 2 * draw(st.integers(1, 6))
    qwen3 = model_type == "a2d-qwen3"
    hidden = 2 * draw(st.integers(4, 20)) if qwen3 else heads * width
    vocab, blocks = draw(st.integers(5, 40)), draw(st.integers(1, 2))
    mlp, tied = draw(st.integers(1, 40)), draw(st.booleans())
    epsilon = draw(st.sampled_from([1e-6, 1e-3, 0.3]))
    theta = draw(st.sampled_from([100.0, 10000.0, 1e6]))
    if model_type == "llada":
        return {
            "architectures": ["LLaDAModelLM"], "model_type": "llada", "block_type": "llama",
            "layer_norm_type": "rms", "activation_type": "silu", "alibi": False, "rope": True,
            "attention_layer_norm": False, "input_emb_norm": False, "scale_logits": False,
            "block_group_size": 1, "include_bias": False, "include_qkv_bias": False,
            "bias_for_layer_norm": False, "layer_norm_with_affine": True,
            "multi_query_attention": None, "attention_dropout": 0.0, "residual_dropout": 0.0,
            "embedding_dropout": 0.0, "d_model": hidden, "n_heads": heads, "n_layers": blocks,
            "n_kv_heads": None if share == 1 else kv_heads, "mlp_hidden_size": mlp,
            "vocab_size": vocab, "embedding_size": draw(st.sampled_from([None, vocab + 3])),
            "max_sequence_length": 64, "rope_theta": theta, "rope_full_precision": True,
            "rms_norm_eps": epsilon, "weight_tying": tied, "mask_token_id": vocab - 1,
        }  # fmt: skip
    architectures = {
        "Dream": "DreamModel", "a2d-qwen2": "A2DQwen2LMHeadModel",
        "a2d-qwen3": "A2DQwen3LMHeadModel",
    }  # fmt: skip
    values = {
        "architectures": [architectures[model_type]], "model_type": model_type,
        "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": mlp,
        "num_hidden_layers": blocks, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "rms_norm_eps": epsilon, "tie_word_embeddings": tied,
        "max_position_embeddings": 64, "hidden_act": "silu", "rope_theta": theta,
        "mask_token_id": vocab - 1,
    }  # fmt: skip
    return values | ({"head_dim": width, "attention_bias": False} if qwen3 else {})


def random_state(config, seed):
    """Published key to float32 array; weights large enough that a wrong one shows."""
    rng = np.random.default_rng(seed)
    state = {}
    for weight in weights(config):
        scale = 0.5 if len(weight.shape) == 1 else weight.shape[1] ** -0.5
        values = scale * rng.standard_normal(weight.shape)
        state[weight.key] = (values + (weight.kind == "scale")).astype(np.float32)
    return state


@settings(max_examples=10, deadline=None)
@given(published_configs(), st.integers(0, 2**16))
def test_any_size_matches_transformers_with_a_full_mask(values, seed):
    config = read_config(values)
    state = random_state(config, seed)
    rng = np.random.default_rng(seed + 1)
    tokens = rng.integers(values["vocab_size"], size=(2, 7), dtype=np.int32)
    lengths = np.array([7, rng.integers(1, 8)], np.int32)
    reference = architecture(config).reference(config, Arrays(state))
    params = to_flax(config, Arrays(state), np.dtype(np.float32))
    apply = jax.jit(build(config).apply, compiler_options=QUICK)
    out = apply({"params": params}, tokens, lengths)
    with torch.inference_mode():
        for b, n in enumerate(lengths):
            theirs = reference(torch.from_numpy(tokens[b : b + 1, :n]).long())
            assert np.abs(out.hidden[b, :n] - theirs.hidden[0].numpy()).max() < 1e-4
            assert np.abs(out.logits[b, :n] - theirs.logits[0].numpy()).max() < 1e-4


def test_a_remade_backward_pass_has_the_same_gradient():
    """`remat` changes what is kept, not what is computed."""
    config = read_config(_QWEN3)
    params = to_flax(config, Arrays(random_state(config, 3)), np.dtype(np.float32))
    tokens = np.arange(12, dtype=np.int32).reshape(2, 6)
    lengths = np.array([6, 4], np.int32)

    def gradient(remat):
        def loss(params):
            out = build(config, remat=remat).apply({"params": params}, tokens, lengths)
            return jnp.square(out.logits[0]).mean() + jnp.square(out.logits[1, :4]).mean()

        return jax.jit(jax.grad(loss), compiler_options=QUICK)(params)

    kept, remade = gradient(False), gradient(True)
    for one, other in zip(jax.tree.leaves(kept), jax.tree.leaves(remade), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(kept))


_QWEN3 = {
    "architectures": ["A2DQwen3LMHeadModel"], "model_type": "a2d-qwen3", "vocab_size": 20,
    "hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 6, "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    "max_position_embeddings": 64, "hidden_act": "silu", "rope_theta": 1e4,
    "attention_bias": False, "mask_token_id": 19,
}  # fmt: skip
