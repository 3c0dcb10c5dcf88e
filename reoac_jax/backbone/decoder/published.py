"""The decoders as they are published: `config.json`, PyTorch's tensor names, a reference model."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from reoac_jax.backbone.config_keys import Keys
from reoac_jax.backbone.decoder.config import DecoderConfig
from reoac_jax.backbone.decoder.model import Decoder
from reoac_jax.backbone.decoder.sizes import read_dream, read_llada, read_qwen2, read_qwen3
from reoac_jax.backbone.layout import Architecture, TensorFile, Weight
from reoac_jax.backbone.tokenizer_ids import read_tokenizer_ids
from reoac_jax.system.errors import InputError

LINEARS = ("q_proj", "k_proj", "v_proj", "attn_out", "mlp_gate", "mlp_up", "mlp_down")
_BIASED = ("q_proj", "k_proj", "v_proj")


@dataclasses.dataclass(frozen=True)
class Names:
    """Where a layout keeps what; a block's names stand behind `block.format(i)`.

    linears: of `LINEARS`, in that order. norms: our name of a block's norm, and the published one.
    """

    embed: str
    block: str
    linears: tuple[str, ...]
    norms: Mapping[str, str]
    final_norm: str
    head: str


_LLADA = Names(
    embed="model.transformer.wte",
    block="model.transformer.blocks.{}",
    linears=("q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out"),
    norms={"attn_norm": "attn_norm", "mlp_norm": "ff_norm"},
    final_norm="model.transformer.ln_f",
    head="model.transformer.ff_out",
)
_QWEN2 = Names(
    embed="model.embed_tokens",
    block="model.layers.{}",
    linears=(
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj",
        "mlp.up_proj",
        "mlp.down_proj",
    ),
    norms={"attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"},
    final_norm="model.norm",
    head="lm_head",
)
_QWEN3 = dataclasses.replace(
    _QWEN2, norms={**_QWEN2.norms, "q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm"}
)


class DecoderArchitecture(Architecture):
    """What the families share; each adds its tensors' names and how it states its sizes."""

    names: ClassVar[Names]

    def sizes(self, keys: Keys) -> dict[str, Any]:
        """`DecoderConfig`'s fields that are sizes and options, from the published keys."""
        raise NotImplementedError

    def read_config(
        self, values: Mapping[str, Any], where: str, tokenizer: Sequence[Path] = ()
    ) -> DecoderConfig:
        keys = Keys(values, where)
        sizes = self.sizes(keys)
        if sizes["n_heads"] % sizes["n_kv_heads"]:
            raise InputError(
                f"{where}: {sizes['n_heads']} attention heads cannot share {sizes['n_kv_heads']} "
                "key-value heads evenly; expected a divisor"
            )
        words = read_tokenizer_ids(tokenizer)
        mask, told_by = keys.token("mask_token_id"), "mask_token_id"
        if mask is None:
            mask, told_by = words.mask, "the tokenizer's <|mask|>"
        if mask is None:
            raise InputError(
                f"{where} has no key 'mask_token_id', and no tokenizer file beside it a token "
                "<|mask|>; expected the id that the model was trained to see as the mask"
            )
        rows = sizes["vocab_size"]
        if mask >= rows:
            raise InputError(
                f"{where}: {told_by} is {mask}; expected an id below the embedding's {rows} rows"
            )
        ends = {name: keys.token(name) for name in ("eos_token_id", "pad_token_id")}
        for name, value in ends.items():
            if value is not None and value >= rows:
                raise keys.refusal(name, f"an id below the embedding's {rows} rows")
        if mask == ends["eos_token_id"]:
            raise InputError(
                f"{where}: {told_by} is {mask}, and so is eos_token_id; expected a mask that is no "
                "other token"
            )
        if words.size is not None and words.size > rows:
            raise InputError(
                f"{where}: the tokenizer has {words.size} ids; expected at most the embedding's "
                f"{rows} rows"
            )
        return DecoderConfig(
            architecture=self.name,
            **sizes,
            mask_id=mask,
            token_count=rows if words.size is None else words.size,
            eos_id=ends["eos_token_id"],
            pad_id=ends["pad_token_id"],
            published=dict(values),
        )

    def published_config(self, config: DecoderConfig) -> dict[str, Any]:
        return config.to_json()

    def build(self, config: DecoderConfig, **attributes: Any) -> Decoder:
        return Decoder(config, **attributes)

    def weights(self, config: DecoderConfig) -> tuple[Weight, ...]:
        return tuple(self._weights(config))

    def _weights(self, config: DecoderConfig) -> Iterator[Weight]:
        names = self.names
        yield Weight(f"{names.embed}.weight", "embed/embedding")
        for i in range(config.n_blocks):
            ours, theirs = f"blocks_{i}", names.block.format(i)
            for name, key in zip(LINEARS, names.linears, strict=True):
                yield Weight(f"{theirs}.{key}.weight", f"{ours}/{name}/kernel")
                if config.qkv_bias and name in _BIASED:
                    yield Weight(f"{theirs}.{key}.bias", f"{ours}/{name}/bias")
            for name, key in names.norms.items():
                yield Weight(f"{theirs}.{key}.weight", f"{ours}/{name}/scale")
        yield Weight(f"{names.final_norm}.weight", "final_norm/scale")
        if not config.tied:
            yield Weight(f"{names.head}.weight", "lm_head/kernel")

    def repeated(self, config: DecoderConfig) -> Mapping[str, str]:
        names = self.names
        return {f"{names.head}.weight": f"{names.embed}.weight"} if config.tied else {}

    def reference(self, config: DecoderConfig, tensors: TensorFile) -> Any:
        from reoac_jax.backbone.decoder.torch_reference import FullAttention

        return FullAttention(config, {weight.key: weight.path for weight in self.weights(config)},
                             tensors)  # fmt: skip


class LLaDA(DecoderArchitecture):
    """Nie et al. 2025 (arXiv 2502.09992), and LLaDA 1.5 (arXiv 2505.19223): `GSAI-ML/LLaDA-*`."""

    name = "llada"
    title = "LLaDA"
    class_names = ("LLaDAModelLM",)
    names = _LLADA

    def sizes(self, keys: Keys) -> dict[str, Any]:
        return read_llada(keys)


class Dream(DecoderArchitecture):
    """Ye et al. 2025 (arXiv 2508.15487), and DiffuCoder: Qwen2 whose logits stand one to the left.

    The shift is `DecoderConfig.reads_left`, which `Denoiser.generated` follows.
    """

    name = "Dream"
    title = "Dream"
    class_names = ("DreamModel",)
    names = _QWEN2

    def sizes(self, keys: Keys) -> dict[str, Any]:
        return read_dream(keys)


class Qwen3(DecoderArchitecture):
    """Qwen3 (arXiv 2505.09388) turned into a masked-diffusion model by `dllm` (a2d)."""

    name = "a2d-qwen3"
    title = "Qwen3 diffusion"
    class_names = ("A2DQwen3LMHeadModel",)
    names = _QWEN3
    causal = "qwen3"

    def sizes(self, keys: Keys) -> dict[str, Any]:
        return read_qwen3(keys)


class Qwen2(DecoderArchitecture):
    """Qwen2.5 turned into a masked-diffusion model by `dllm` (a2d)."""

    name = "a2d-qwen2"
    title = "Qwen2 diffusion"
    class_names = ("A2DQwen2LMHeadModel",)
    names = _QWEN2
    causal = "qwen2"

    def sizes(self, keys: Keys) -> dict[str, Any]:
        return read_qwen2(keys)
