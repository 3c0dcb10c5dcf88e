"""`transformers`' own Qwen3, Qwen2 and Llama classes with a full mask: an independent reference.

LLaDA is Llama under other names of keys; Dream and a2d-qwen2 are Qwen2; a2d-qwen3 is Qwen3. Only
the names are ours here, written down again and not taken from the package.
"""

import re

import numpy as np
import torch
import transformers

CLASSES = {
    "llada": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "Dream": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "a2d-qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "a2d-qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}
LLADA_KEYS = (
    (r"model\.transformer\.wte", "model.embed_tokens"),
    (r"model\.transformer\.ln_f", "model.norm"),
    (r"model\.transformer\.ff_out", "lm_head"),
    (r"model\.transformer\.blocks", "model.layers"),
    (r"\.(q|k|v)_proj", r".self_attn.\1_proj"),
    (r"\.attn_out", ".self_attn.o_proj"),
    (r"\.attn_norm", ".input_layernorm"),
    (r"\.ff_norm", ".post_attention_layernorm"),
    (r"\.ff_proj", ".mlp.gate_proj"),
    (r"\.up_proj", ".mlp.up_proj"),
    (r"\.ff_out", ".mlp.down_proj"),
)


def build(values, state):
    """The reference in float32.

    Args:
      values: a published `config.json`.
      state: published key to float32 array.
    """
    config_class, model_class = CLASSES[values["model_type"]]
    if values["model_type"] == "llada":
        sizes = dict(
            vocab_size=values["embedding_size"] or values["vocab_size"],
            hidden_size=values["d_model"],
            intermediate_size=values["mlp_hidden_size"],
            num_hidden_layers=values["n_layers"],
            num_attention_heads=values["n_heads"],
            num_key_value_heads=values["n_kv_heads"] or values["n_heads"],
            rms_norm_eps=values["rms_norm_eps"],
            tie_word_embeddings=values["weight_tying"],
            rope_theta=values["rope_theta"],
        )
        renamed = {}
        for key, value in state.items():
            for pattern, replacement in LLADA_KEYS:
                key, count = re.subn(pattern, replacement, key)
            renamed[key] = value
        state = renamed
    else:
        left_out = ("architectures", "model_type", "torch_dtype", "mask_token_id", "pad_token_id")
        sizes = {key: value for key, value in values.items() if key not in left_out}
    theta = sizes.pop("rope_theta")
    sizes["rope_parameters"] = {"rope_type": "default", "rope_theta": theta}
    config = config_class(**sizes, attn_implementation="eager")
    model = model_class(config).eval()
    missing, unexpected = model.load_state_dict(
        {key: torch.from_numpy(np.array(value)) for key, value in state.items()}, strict=False
    )
    assert not unexpected, unexpected
    assert set(missing) <= ({"lm_head.weight"} if config.tie_word_embeddings else set()), missing
    model.tie_weights()
    return model


def forward(model, tokens, lengths, dtype=torch.float32):
    """Unshifted logits and the last block's output, float32 arrays, with full attention.

    The last block's output is caught in front of the final norm.
    """
    model = model.to(dtype)
    tokens, lengths = torch.from_numpy(np.asarray(tokens)).long(), torch.as_tensor(lengths)
    length = tokens.shape[1]
    real = torch.arange(length)[None, None, None, :] < lengths[:, None, None, None]
    mask = torch.zeros(len(tokens), 1, length, length, dtype=dtype)
    mask = mask.masked_fill(~real, torch.finfo(dtype).min)
    caught = []
    hook = model.model.norm.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    with torch.inference_mode():
        logits = model(
            input_ids=tokens, attention_mask=mask, position_ids=torch.arange(length)[None]
        ).logits
    hook.remove()
    return logits.float().numpy(), caught[0].float().numpy()
