"""`transformers`' own Llama, Qwen2 and Qwen3 with a full mask: the decoders' PyTorch reference.

The published classes are those with the causal mask left out (LLaDA's is Llama under other names),
but are code on the hub, which is not run here. Dream's logits come out unshifted, as in its own
class.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from reoac_jax.backbone.decoder.config import DecoderConfig
from reoac_jax.backbone.layout import TensorFile

# Ours, "blocks_3/q_proj/kernel", to transformers' "model.layers.3.self_attn.q_proj.weight".
_RENAMED = (
    (r"^embed/embedding$", "model.embed_tokens.weight"),
    (r"^final_norm/", "model.norm/"),
    (r"^blocks_(\d+)/", r"model.layers.\1."),
    (r"\.attn_norm/", ".input_layernorm/"),
    (r"\.mlp_norm/", ".post_attention_layernorm/"),
    (r"\.attn_out/", ".self_attn.o_proj/"),
    (r"\.(q|k|v)_(proj|norm)/", r".self_attn.\1_\2/"),
    (r"\.mlp_(gate|up|down)/", r".mlp.\1_proj/"),
    (r"/(kernel|scale)$", ".weight"),
    (r"/bias$", ".bias"),
)


class Output(NamedTuple):
    """logits `[B, L, V]` and hidden `[B, L, D]`, the last block's output, before the final norm."""

    logits: torch.Tensor
    hidden: torch.Tensor


class FullAttention:
    """The model as a function of whole rows, int64 `[B, L]`.

    Args:
      config: the sizes. paths: published key to our parameter. tensors: the published file.
      dtype: of the weights and of the arithmetic.
    """

    def __init__(
        self,
        config: DecoderConfig,
        paths: Mapping[str, str],
        tensors: TensorFile,
        dtype: torch.dtype = torch.float32,
    ):
        sizes: dict[str, Any] = dict(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_dim,
            intermediate_size=config.mlp_dim,
            num_hidden_layers=config.n_blocks,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            max_position_embeddings=config.context,
            tie_word_embeddings=config.tied,
            attn_implementation="eager",
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        model: Any = transformers.LlamaForCausalLM
        built: Any = transformers.LlamaConfig
        if config.head_norms:
            model, built = transformers.Qwen3ForCausalLM, transformers.Qwen3Config
        elif config.qkv_bias:
            model, built = transformers.Qwen2ForCausalLM, transformers.Qwen2Config
        built = built(**sizes)
        state = {}
        for key, path in paths.items():
            for pattern, replacement in _RENAMED:
                path = re.sub(pattern, replacement, path)
            state[path] = torch.from_numpy(np.array(tensors.read(key))).to(dtype)
        if config.tied:
            state["lm_head.weight"] = state["model.embed_tokens.weight"]
        with torch.device("meta"):  # no second set of weights: those of the file are put in place
            self._model = model(built).eval()
        self._model.load_state_dict(state, assign=True)
        # The rotary table is no parameter of the file, and stays in float32 as published.
        rotary = type(self._model.model.rotary_emb)
        self._model.model.rotary_emb = rotary(built)
        self._dtype = dtype

    def __call__(self, tokens: torch.Tensor, sigma: torch.Tensor | None = None) -> Output:
        """Logits and hidden states; sigma is not read."""
        batch, length = tokens.shape
        mask = torch.zeros(batch, 1, length, length, dtype=self._dtype)  # added: 0 hides nothing
        caught: list[torch.Tensor] = []
        hook = self._model.model.norm.register_forward_pre_hook(
            lambda _, inputs: caught.append(inputs[0])
        )
        try:
            logits = self._model(
                input_ids=tokens, attention_mask=mask, position_ids=torch.arange(length)[None]
            ).logits
        finally:
            hook.remove()
        return Output(logits, caught[0])
