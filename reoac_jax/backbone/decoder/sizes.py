"""How each family's `config.json` states the sizes, and which of its variants are refused.

Sources: the published code of LLaDA (arXiv 2502.09992), Dream (arXiv 2508.15487) and dllm's a2d
conversions of Qwen3 and Qwen2.
"""

from typing import Any

from reoac_jax.backbone.config_keys import Keys
from reoac_jax.system.errors import InputError


def read_llada(keys: Keys) -> dict[str, Any]:
    for name, allowed in {
        "block_type": ("llama",),
        "layer_norm_type": ("rms",),
        "activation_type": ("silu",),
        "alibi": (False,),
        "rope": (True,),
        "attention_layer_norm": (False,),
        "input_emb_norm": (False,),
        "scale_logits": (False,),
        "block_group_size": (1,),
        "include_bias": (False,),
        "include_qkv_bias": (False,),
        "bias_for_layer_norm": (False, None),
        "layer_norm_with_affine": (True,),
        "multi_query_attention": (False, None),
        "attention_dropout": (0,),
        "residual_dropout": (0,),
        "embedding_dropout": (0,),
    }.items():
        keys.must_be(name, *allowed)
    vocab_size, n_heads = keys.count("vocab_size"), keys.count("n_heads")
    hidden_dim = keys.count("d_model")
    return {
        "vocab_size": _or_null(keys, "embedding_size", vocab_size),
        "context": keys.count("max_sequence_length"),
        "hidden_dim": hidden_dim,
        "n_blocks": keys.count("n_layers"),
        "n_heads": n_heads,
        "n_kv_heads": _or_null(keys, "n_kv_heads", n_heads),
        "head_dim": _even_share(keys, "d_model", hidden_dim, "n_heads", n_heads),
        "mlp_dim": keys.count("mlp_hidden_size"),
        "rope_theta": keys.positive("rope_theta"),
        "rope_float32": keys.flag("rope_full_precision"),
        "norm_eps": keys.positive("rms_norm_eps"),
        "qkv_bias": False,
        "head_norms": False,
        "tied": keys.flag("weight_tying"),
        "reads_left": False,
    }


def _transformers_layout(keys: Keys) -> dict[str, Any]:
    """What the families that follow `transformers`' Qwen2 and Qwen3 have in common."""
    keys.must_be("hidden_act", "silu")
    keys.must_be("attention_dropout", 0, required=False)
    keys.must_be("use_sliding_window", False, required=False)
    keys.must_be("use_mrope", False, required=False)
    keys.must_be("rope_scaling", None, required=False)
    layers = keys.values.get("layer_types")
    if layers is not None and (not isinstance(layers, list) or set(layers) - {"full_attention"}):
        raise keys.refusal("layer_types", "full_attention in every layer")
    return {
        "vocab_size": keys.count("vocab_size"),
        "context": keys.count("max_position_embeddings"),
        "hidden_dim": keys.count("hidden_size"),
        "n_blocks": keys.count("num_hidden_layers"),
        "n_heads": keys.count("num_attention_heads"),
        "n_kv_heads": keys.count("num_key_value_heads"),
        "mlp_dim": keys.count("intermediate_size"),
        "rope_theta": _rope_theta(keys),
        "rope_float32": False,
        "norm_eps": keys.positive("rms_norm_eps"),
        "tied": keys.flag("tie_word_embeddings"),
    }


def read_qwen3(keys: Keys) -> dict[str, Any]:
    keys.must_be("attention_bias", False)
    head_dim = keys.count("head_dim")
    if head_dim % 2:
        raise keys.refusal("head_dim", "an even number")
    return _transformers_layout(keys) | {
        "head_dim": head_dim,
        "qkv_bias": False,
        "head_norms": True,
        "reads_left": False,
    }


def read_qwen2(keys: Keys) -> dict[str, Any]:
    sizes = _transformers_layout(keys)
    width = _even_share(
        keys, "hidden_size", sizes["hidden_dim"], "num_attention_heads", sizes["n_heads"]
    )
    return sizes | {"head_dim": width, "qkv_bias": True, "head_norms": False, "reads_left": False}


def read_dream(keys: Keys) -> dict[str, Any]:
    return read_qwen2(keys) | {"reads_left": True}


def _or_null(keys: Keys, name: str, otherwise: int) -> int:
    """A count, or what null stands for; the key must be there."""
    return otherwise if name in keys and keys.values[name] is None else keys.count(name)


def _even_share(keys: Keys, of: str, width: int, among: str, heads: int) -> int:
    if width % heads or width // heads % 2:
        raise InputError(
            f"{keys.where}: {of} {width} does not split into {among} {heads}; expected heads "
            "of even width"
        )
    return width // heads


def _rope_theta(keys: Keys) -> float:
    """`rope_theta`, which transformers 5 writes inside `rope_parameters`."""
    if "rope_theta" in keys or "rope_parameters" not in keys:
        return keys.positive("rope_theta")
    inner = keys.values["rope_parameters"]
    if not isinstance(inner, dict):
        raise keys.refusal("rope_parameters", "an object with rope_theta")
    rope = Keys(inner, f"{keys.where}: rope_parameters")
    rope.must_be("rope_type", "default")
    return rope.positive("rope_theta")
