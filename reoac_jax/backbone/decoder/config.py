"""What a decoder architecture's `config.json` means: sizes, options, and the ids of its words.

Every key that the forward pass depends on is read, and a missing one is refused: the defaults of
the published classes differ from the published values.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from reoac_jax.backbone.interface import ModelSpec


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """One pre-norm decoder that sees the whole row; families differ in these fields alone.

    architecture: the family, by `config.json`'s `model_type`.
    vocab_size: V, rows of the embedding and of the head; a tokenizer may end earlier.
    context: longest row L that the model was trained for.
    hidden_dim: D. mlp_dim: width of the gated MLP.
    n_kv_heads: heads of keys and values, each shared by n_heads / n_kv_heads query heads.
    head_dim: width of a head; n_heads of them need not fill D.
    rope_theta: base of the rotary embedding.
    rope_float32: whether a 16-bit model rotates in float32 and casts back, or in its own dtype.
    norm_eps: what RMS norm adds to the mean square.
    qkv_bias: biases on the query, key and value maps.
    head_norms: RMS norm of each query and key head, before the rotation.
    tied: the head is the embedding's matrix.
    reads_left: the logits of position i stand at max(i - 1, 0), as a causal model's do.
    mask_id: the id that stands for a masked position.
    token_count: ids that the tokenizer knows; V where there is none.
    eos_id, pad_id: as `config.json` gives them; None where it does not.
    published: the `config.json` that this was read from; takes no part in comparisons.
    """

    architecture: str
    vocab_size: int
    context: int
    hidden_dim: int
    n_blocks: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    mlp_dim: int
    rope_theta: float
    rope_float32: bool
    norm_eps: float
    qkv_bias: bool
    head_norms: bool
    tied: bool
    reads_left: bool
    mask_id: int
    token_count: int
    eos_id: int | None
    pad_id: int | None
    published: Mapping[str, Any] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(
            vocab_size=self.vocab_size,
            mask_id=self.mask_id,
            token_count=self.token_count,
            hidden_dim=self.hidden_dim,
            n_blocks=self.n_blocks,
            context=self.context,
            reads_left=self.reads_left,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
        )

    def for_tokenizer(self, count: int) -> Self:
        """Of a tokenizer that is not beside the weights, too."""
        return dataclasses.replace(self, token_count=min(self.token_count, count))

    def to_json(self) -> dict[str, Any]:
        """The published `config.json`, with the mask's id where it did not hold one."""
        return dict(self.published) | {"mask_token_id": self.mask_id}
