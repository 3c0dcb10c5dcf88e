"""Backbones of true width that exist only as shapes."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from random_checkpoint import HEADERS, KEYS, PRESETS, PUBLISHED_MASKS

from reoac_jax.backbone.architectures import architecture_of
from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.store import build_here
from reoac_jax.learning.parts import Parts, make_heads
from reoac_jax.learning.trainable import critic_trainable
from reoac_jax.policy.vocabulary import build_vocabulary
from reoac_jax.tasks.encode import Encoded
from reoac_jax.tasks.problem_set import ProblemSet
from reoac_jax.tasks.tokenizer import Tokenizer, read_tokenizer

_BUNDLED = Path(__file__).resolve().parents[2] / "data" / "tiny_mdlm"
_TINY = BackboneConfig(1200, 128, 128, 32, 3, 4)


def _published(kind: str) -> ModelConfig:
    """The sizes of a published decoder."""
    values = dict(HEADERS[kind])
    values |= {KEYS[kind][name]: size for name, size in PRESETS[kind]["published"].items()}
    values["mask_token_id"] = PUBLISHED_MASKS[kind]
    values.setdefault("embedding_size", values["vocab_size"])
    return architecture_of(values, kind).read_config(values, kind)


# The sizes behind `backbone.path`, by the folder's name.
BACKBONES: dict[str, ModelConfig] = {
    "mdlm-owt": BackboneConfig(),
    "gsm8k_midsize": BackboneConfig(
        model_length=256, hidden_dim=192, cond_dim=64, n_blocks=6, n_heads=6
    ),
    "tiny_mdlm": _TINY,
    "tiny_trajectory": _TINY,
    "mixed_mdlm": _TINY,
    "mixed_trajectory": _TINY,
    "mixed_few_passes": _TINY,
    "arithmetic_mdlm": _TINY,
    "qwen3": _published("qwen3"),
    "dream": _published("dream"),
    "llada": _published("llada"),
}


def backbone_of(config: ConfigDict, blocks: int | None = None) -> ModelConfig:
    """The sizes that a configuration's backbone has; with so many blocks in place of its own."""
    sizes = BACKBONES[Path(config.backbone.path).name]
    return sizes if blocks is None else dataclasses.replace(sizes, n_blocks=blocks)


def abstract_parts(config: ConfigDict, sizes: ModelConfig) -> Parts:
    """What `load_parts` would load on a GPU, its parameters as shapes.

    The bundled tokenizer stands in for the published one: no program depends on its texts.
    """
    model = build_here(
        sizes, compute_dtype=config.backbone.compute_dtype, attention=config.backbone.attention
    )
    tokenizer: Tokenizer = read_tokenizer(str(_BUNDLED))
    heads = make_heads(config, model, tokenizer.eos_token_id)
    vocabulary = build_vocabulary(
        tokenizer, sizes.spec.vocab_size, sizes.spec.mask_id, symbols=config.features.notation
    )
    shapes = model.parameter_shapes()
    if config.backbone.param_dtype == "stored":  # as all of them are published
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), shapes)
    return Parts(model, shapes, "", tokenizer, vocabulary, heads, critic_trainable(config))


def longest_problems(config: ConfigDict, count: int) -> ProblemSet:
    """Problems without text whose prompts are as long as they may be."""
    longest = config.rollout.max_prompt_len
    return ProblemSet(
        problems=(), references=(),
        encoded=Encoded(
            prompt_tokens=[np.zeros(longest, np.int32)] * count,
            key_mask=[np.zeros(longest, bool)] * count,
            reference=np.zeros((count, config.rollout.gen_len), np.int32),
            prompts_truncated=0, references_truncated=0,
        ),
    )  # fmt: skip
