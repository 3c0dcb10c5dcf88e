"""MDLM as it is published: `config.json`, PyTorch's tensor names, its reference model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reoac_jax.backbone.attention import rotary_frequencies
from reoac_jax.backbone.layout import Architecture, Buffer, TensorFile, Weight
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.mdlm.model import Backbone
from reoac_jax.system.errors import InputError

INV_FREQ_KEY = "backbone.rotary_emb.inv_freq"
# The model's code stays on the hub, so that a folder written by us loads with `transformers`.
PUBLISHED_HEADER = {
    "architectures": ["MDLM"],
    "model_type": "mdlm",
    "torch_dtype": "float32",
    "auto_map": {
        "AutoConfig": "kuleshov-group/mdlm-owt--configuration_mdlm.MDLMConfig",
        "AutoModelForMaskedLM": "kuleshov-group/mdlm-owt--modeling_mdlm.MDLM",
    },
    "return_dict": False,
}


class MDLM(Architecture):
    """Sahoo et al. 2024 (arXiv 2406.07524); the checkpoints of `kuleshov-group`."""

    name = "mdlm"
    title = "MDLM"
    class_names = ("MDLM",)
    # What the original training code keeps beside the backbone in a Lightning state dict.
    training_prefixes = ("noise.", "metrics.", "train_metrics.", "valid_metrics.", "test_metrics.")
    assumed = "model_length 1024 and time_conditioning false"
    reference_class = "reoac_jax.convert.mdlm_torch.MDLM"

    def read_config(
        self, values: Mapping[str, Any], where: str, tokenizer: Sequence[Path] = ()
    ) -> BackboneConfig:
        return BackboneConfig.from_json(values, where)

    def published_config(self, config: BackboneConfig) -> dict[str, Any]:
        return PUBLISHED_HEADER | config.to_json()

    def build(self, config: BackboneConfig, **attributes: Any) -> Backbone:
        return Backbone(config, **attributes)

    def weights(self, config: BackboneConfig) -> tuple[Weight, ...]:
        found: list[Weight] = []

        def add(key: str, path: str) -> None:
            found.append(Weight(f"backbone.{key}", path))

        def linear(key: str, path: str, bias: bool = True) -> None:
            add(f"{key}.weight", f"{path}/kernel")
            if bias:
                add(f"{key}.bias", f"{path}/bias")

        add("vocab_embed.embedding", "vocab_embed/embedding")
        linear("sigma_map.mlp.0", "sigma_map/linear_0")
        linear("sigma_map.mlp.2", "sigma_map/linear_1")
        for i in range(config.n_blocks):
            ours, theirs = f"blocks_{i}", f"blocks.{i}"
            add(f"{theirs}.norm1.weight", f"{ours}/norm1/scale")
            linear(f"{theirs}.attn_qkv", f"{ours}/attn_qkv", bias=False)
            linear(f"{theirs}.attn_out", f"{ours}/attn_out", bias=False)
            add(f"{theirs}.norm2.weight", f"{ours}/norm2/scale")
            linear(f"{theirs}.mlp.0", f"{ours}/mlp_in")
            linear(f"{theirs}.mlp.2", f"{ours}/mlp_out")
            linear(f"{theirs}.adaLN_modulation", f"{ours}/adaln")
        add("output_layer.norm_final.weight", "final/norm/scale")
        linear("output_layer.linear", "final/linear")
        linear("output_layer.adaLN_modulation", "final/adaln")
        return tuple(found)

    def buffers(self, config: BackboneConfig) -> Mapping[str, Buffer]:
        rotary = np.asarray(rotary_frequencies(config.head_dim))
        meaning = (
            f"1 / 10000^(2k / {config.head_dim}); expected rotary embeddings of base 10000 on the "
            "whole head"
        )
        return {INV_FREQ_KEY: Buffer(rotary, meaning)}

    def stored_buffers(self, source: Mapping[str, Any]) -> Mapping[str, np.ndarray]:
        if "rotary_inv_freq" in source:  # where format 1 keeps it
            return {INV_FREQ_KEY: np.asarray(source["rotary_inv_freq"], np.float32)}
        return super().stored_buffers(source)

    def infer_config(
        self, shapes: Mapping[str, tuple[int, ...]], where: str
    ) -> BackboneConfig | None:
        if not any(key.startswith("backbone.") for key in shapes):
            return None
        sizes = _infer_sizes(shapes, where)
        assumed = {"model_length": 1024, "time_conditioning": False}
        return BackboneConfig.from_json(sizes | assumed, where)

    def reference(self, config: BackboneConfig, tensors: TensorFile) -> Any:
        import torch

        from reoac_jax.backbone.mdlm import torch_reference

        sizes = config.to_json()
        del sizes["model_length"]  # rotary embeddings have no length
        with torch.device("meta"):  # no second set of weights: those of the file are put in place
            model = torch_reference.MDLM(**sizes).eval()
        values = {key: buffer.value for key, buffer in self.buffers(config).items()}
        values |= {key: tensors.read(key) for key in tensors.shapes}
        state = {key: torch.from_numpy(np.array(value)) for key, value in values.items()}
        model.load_state_dict(state, assign=True)
        return model


def _infer_sizes(shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, int]:
    """Vocabulary, widths, blocks and heads that the tensors' shapes imply.

    Args:
        shapes: published key to shape.
        where: the file, for messages.

    Raises:
        InputError: a key that the sizes are read from is missing or has the wrong rank.
    """

    def shape(key: str, rank: int) -> tuple[int, ...]:
        if key not in shapes:
            raise InputError(
                f"{where}: key {key} is missing; expected the keys of an MDLM backbone, or its "
                "sizes in --config-json FILE"
            )
        if len(shapes[key]) != rank or 0 in shapes[key]:
            raise InputError(
                f"{where}: key {key} has shape {list(shapes[key])}; expected {rank} sizes"
            )
        return tuple(shapes[key])

    vocab_size, hidden_dim = shape("backbone.vocab_embed.embedding", 2)
    head_dim = 2 * shape(INV_FREQ_KEY, 1)[0]
    if hidden_dim % head_dim:
        raise InputError(
            f"{where}: key {INV_FREQ_KEY} implies heads of width {head_dim}; "
            f"expected a divisor of the model's width {hidden_dim}"
        )
    blocks = {key.split(".")[2] for key in shapes if key.startswith("backbone.blocks.")}
    return {
        "vocab_size": vocab_size,
        "hidden_dim": hidden_dim,
        "cond_dim": shape("backbone.sigma_map.mlp.0.weight", 2)[0],
        "n_blocks": len(blocks),
        "n_heads": hidden_dim // head_dim,
    }
