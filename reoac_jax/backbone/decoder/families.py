"""The families of decoders: how each names its sizes and what of it is not supported.

A family is its `model_type` and `architectures`, a reader of `config.json`, and (in `published.py`)
a map of its tensors' names. Sources: the published code of LLaDA (arXiv 2502.09992), Dream (arXiv
2508.15487) and dllm's a2d conversions of Qwen3 and Qwen2.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from reoac_jax.backbone.decoder.config import DecoderConfig, Keys
from reoac_jax.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class Family:
    """One published decoder.

    architecture: the class that `config.json` must name: `model_type` alone does not decide, since
      other networks are published under the same one.
    read: the fields of `DecoderConfig` but `model_type`, the ids and `published`.
    """

    model_type: str
    architecture: str
    read: Callable[[Keys], dict[str, Any]]


def _llada(keys: Keys) -> dict[str, Any]:
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
        "logits_shift": 0,
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


def _qwen3(keys: Keys) -> dict[str, Any]:
    keys.must_be("attention_bias", False)
    head_dim = keys.count("head_dim")
    if head_dim % 2:
        raise keys.refusal("head_dim", "an even number")
    return _transformers_layout(keys) | {
        "head_dim": head_dim,
        "qkv_bias": False,
        "head_norms": True,
        "logits_shift": 0,
    }


def _qwen2(keys: Keys) -> dict[str, Any]:
    sizes = _transformers_layout(keys)
    width = _even_share(
        keys, "hidden_size", sizes["hidden_dim"], "num_attention_heads", sizes["n_heads"]
    )
    return sizes | {"head_dim": width, "qkv_bias": True, "head_norms": False, "logits_shift": 0}


def _dream(keys: Keys) -> dict[str, Any]:
    return _qwen2(keys) | {"logits_shift": 1}


FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        Family("llada", "LLaDAModelLM", _llada),
        Family("Dream", "DreamModel", _dream),
        Family("a2d-qwen3", "A2DQwen3LMHeadModel", _qwen3),
        Family("a2d-qwen2", "A2DQwen2LMHeadModel", _qwen2),
    )
}


def read_decoder_config(
    values: Mapping[str, Any], where: str = "config.json", *, mask_id: int | None = None
) -> DecoderConfig:
    """Reads and checks a published `config.json`.

    Args:
      values: its keys.
      where: the file, for messages.
      mask_id: the tokenizer's mask, for a family whose `config.json` need not name it; the file's
        own `mask_token_id` comes first.

    Raises:
      InputError: a key is missing or holds what the module does not compute, heads do not divide,
        the mask is unknown or lies outside the vocabulary.
    """
    keys = Keys(values, where)
    family = _family(keys)
    sizes = family.read(keys)
    if sizes["n_heads"] % sizes["n_kv_heads"]:
        raise InputError(
            f"{where}: {sizes['n_heads']} attention heads cannot share {sizes['n_kv_heads']} "
            "key-value heads evenly; expected a divisor"
        )
    mask = keys.token("mask_token_id")
    named = "mask_token_id" if mask is not None else "the tokenizer's mask"
    mask = mask_id if mask is None else mask
    if mask is None:
        raise InputError(
            f"{where} has no key 'mask_token_id', and no tokenizer file beside it has a token "
            "<|mask|>; expected the id that the model was trained to see as the mask"
        )
    if mask >= sizes["vocab_size"]:
        raise InputError(
            f"{where}: {named} is {mask}; expected an id below the embedding's "
            f"{sizes['vocab_size']} rows"
        )
    return DecoderConfig(
        model_type=family.model_type,
        **sizes,
        mask_id=mask,
        eos_id=keys.token("eos_token_id"),
        pad_id=keys.token("pad_token_id"),
        published=json.dumps(dict(values)),
    )


def _family(keys: Keys) -> Family:
    model_type = keys.values.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    known = ", ".join(FAMILIES)
    if "model_type" not in keys:
        raise InputError(f"{keys.where} has no key 'model_type'; expected one of {known}")
    if family is None:
        adapted = f"a2d-{model_type}"
        if adapted in FAMILIES:
            raise InputError(
                f"{keys.where}: model_type is {model_type!r}, a causal language model: it was "
                "never trained to fill in masked tokens; expected a diffusion model such as "
                f"{adapted}, which has the same layout"
            )
        raise InputError(f"{keys.where}: model_type is {model_type!r}; expected one of {known}")
    architectures = keys.values.get("architectures")
    if architectures != [family.architecture]:
        raise InputError(
            f"{keys.where}: architectures is {architectures!r} with model_type {model_type!r}; "
            f"expected [{family.architecture!r}]: another network under this name is not supported"
        )
    return family


def _or_null(keys: Keys, name: str, otherwise: int) -> int:
    """A count, or what null stands for; the key must be there."""
    return otherwise if name in keys and keys.values[name] is None else keys.count(name)


def _even_share(keys: Keys, of: str, width: int, among: str, heads: int) -> int:
    if width % heads or width // heads % 2:
        raise InputError(
            f"{keys.where}: {of} {width} does not split into {among} {heads} heads of even width"
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
