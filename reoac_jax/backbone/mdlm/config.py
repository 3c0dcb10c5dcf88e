"""The backbone's sizes, as the published `config.json` states them (DESIGN.md, section 3)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from reoac_jax.backbone.interface import ModelSpec
from reoac_jax.system.errors import InputError

_INTEGERS = ("vocab_size", "model_length", "hidden_dim", "cond_dim", "n_blocks", "n_heads")


@dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """Sizes of a masked-diffusion transformer; the defaults are `kuleshov-group/mdlm-owt`'s.

    vocab_size: V, the tokenizer's tokens and, as the last id, the mask.
    model_length: longest row L the model was trained for.
    hidden_dim: D. cond_dim: width of the conditioning vector.
    dropout: rate on the attention's and the MLP's output in training.
    time_conditioning: whether the network sees sigma; if not it is a function of the tokens alone.
    """

    architecture: ClassVar[str] = "mdlm"

    vocab_size: int = 50258
    model_length: int = 1024
    hidden_dim: int = 768
    cond_dim: int = 128
    n_blocks: int = 12
    n_heads: int = 12
    dropout: float = 0.1
    time_conditioning: bool = False

    @property
    def mask_id(self) -> int:
        """The mask is the model's last token id, whatever the tokenizer says."""
        return self.vocab_size - 1

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(
            vocab_size=self.vocab_size,
            mask_id=self.mask_id,
            token_count=self.vocab_size,
            hidden_dim=self.hidden_dim,
            n_blocks=self.n_blocks,
            context=self.model_length,
            sees_time=self.time_conditioning,
        )

    @property
    def head_dim(self) -> int:
        return self.hidden_dim // self.n_heads

    def for_tokenizer(self, count: int) -> Self:
        """Itself: its rows are the tokens that it was trained with, and the mask."""
        return self

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str = "config.json") -> "BackboneConfig":
        """Reads and checks the published fields; other fields are ignored. Raises `InputError`."""
        for name in _INTEGERS:
            if name not in values:
                raise InputError(f"{where} has no key '{name}'; expected a positive integer")
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{where}: {name} is {value!r}; expected a positive integer")
        dropout = values.get("dropout", cls.dropout)
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)):
            raise InputError(f"{where}: dropout is {dropout!r}; expected a number in [0, 1)")
        if not 0 <= dropout < 1:
            raise InputError(f"{where}: dropout is {dropout!r}; expected a number in [0, 1)")
        time_conditioning = values.get("time_conditioning", False)
        if not isinstance(time_conditioning, bool):
            raise InputError(
                f"{where}: time_conditioning is {time_conditioning!r}; expected true or false"
            )
        config = cls(
            **{name: values[name] for name in _INTEGERS},
            dropout=float(dropout),
            time_conditioning=time_conditioning,
        )
        if config.hidden_dim % config.n_heads or config.head_dim % 2:
            raise InputError(
                f"{where}: hidden_dim {config.hidden_dim} does not split into n_heads "
                f"{config.n_heads} heads; expected an even width of each"
            )
        return config

    def to_json(self) -> dict[str, Any]:
        """The fields under their published names."""
        return dataclasses.asdict(self)
