"""What the program knows of a language model: its facts, and the calls that loops make.

`ModelSpec` says the facts that loops and tables need. `Denoiser` is the model as the rollout, the
samplers, the likelihood and the learner call it; `module.py` makes one of a Flax module. The model
as the store, PEFT and the converters see it is in `layout.py`.

Shapes: `B` batch, `L` row length, `N` chosen positions, `D` width, `V` rows of the output head.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp

from reoac_jax.backbone.kept import Kept, Window
from reoac_jax.system.errors import InputError

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The facts of a model that the rest of the program asks for.

    vocab_size: V, rows of the embedding and of the output head.
    mask_id: the id that stands where a token is still to be written.
    token_count: ids at or beyond it are rows that no token has: they have no text and are never
      drawn. V where the tokenizer fills the matrix.
    hidden_dim: D. n_blocks: of the transformer. context: longest row the model was trained for.
    sees_time: whether the network sees the noise level; if not it is a function of the tokens.
    reads_left: whether the logits of position i stand at i - 1 (at 0 for i = 0), as in models made
      from autoregressive ones. `Denoiser.generated` takes care of it.
    eos_id, pad_id: ids of what ends a text and of what stands behind it; None where the tokenizer
      alone knows.
    """

    vocab_size: int
    mask_id: int
    token_count: int
    hidden_dim: int
    n_blocks: int
    context: int
    sees_time: bool = False
    reads_left: bool = False
    eos_id: int | None = None
    pad_id: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mask_id < self.vocab_size:
            raise InputError(
                f"the mask's id is {self.mask_id}; expected one of the model's {self.vocab_size}"
            )
        if not 0 < self.token_count <= self.vocab_size:
            raise InputError(
                f"the tokenizer has {self.token_count} ids; expected at most the model's "
                f"{self.vocab_size}"
            )

    def drawable(self) -> jax.Array:
        """bool `[V]`: the ids that may be written. Not the mask (SUBS), nor ids without a token."""
        ids = jnp.arange(self.vocab_size)
        return (ids != self.mask_id) & (ids < self.token_count)


class Prepared(NamedTuple):
    """What the network derives from sigma, for the blocks and for the head; pytrees.

    Each array has a leading axis of 1 (the same for all rows) or B. Empty in models that do not
    see the time.
    """

    trunk: Any = ()
    head: Any = ()

    def head_rows(self, batch: int) -> Any:
        """`head` with one row for each of the batch, to be cut along with it."""
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape[1:])), self.head)


@runtime_checkable
class Denoiser(Protocol):
    """A masked-diffusion model. Every method is pure, and called inside `jit`.

    variables: Flax collections, {"params": ...} and possibly {"lora": ...} (see `lora`).
    dropout_key: turns dropout on; None is the deterministic network.
    keeps_keys: whether keys and values can be kept from pass to pass.
    """

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def keeps_keys(self) -> bool: ...

    dtype: Any

    def prepare(
        self,
        variables: Any,
        sigma: jax.Array | None = None,
        *,
        dropout_key: jax.Array | None = None,
    ) -> Prepared:
        """What depends on the noise level alone. sigma: float32 `[B]`; None unless `sees_time`."""
        ...

    def hidden(
        self,
        variables: Any,
        rows: jax.Array,
        lengths: jax.Array,
        prepared: Prepared,
        *,
        dropout_key: jax.Array | None = None,
        window: Window | None = None,
    ) -> jax.Array:
        """The last block's output, float32 `[B, L, D]`.

        rows: int32 `[B, L]`, right-padded. lengths: int32 `[B]`, at least 1. window: rows are
        `[B, W]`, so many positions from its `begin` on, and those before it are read from the keys
        and values that were kept; where `keeps_keys`.
        """
        ...

    def hidden_and_kept(
        self, variables: Any, rows: jax.Array, lengths: jax.Array, prepared: Prepared
    ) -> tuple[jax.Array, Kept]:
        """What `hidden` gives of whole rows, and their keys and values; where `keeps_keys`."""
        ...

    def generated(self, hidden: jax.Array, first: jax.Array, count: int) -> jax.Array:
        """Hidden states `[B, count, D]` whose logits are those of positions first .. first + count.

        first: int32 `[B]`.
        """
        ...

    def logits(
        self,
        variables: Any,
        hidden: jax.Array,
        prepared: Prepared,
        *,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """Raw logits, float32 `[B, N, V]`, of states `[B, N, D]`; reads `prepared.head` alone."""
        ...

    def cast_for_compute(self, params: Any) -> Any:
        """The parameters, or some of them, with the matrices that are multiplied in `dtype` stored
        so, once.
        """
        ...


class ModelConfig(Protocol):
    """A model's sizes: what of `config.json` the network is built from, checked."""

    @property
    def architecture(self) -> str:
        """Key in `ARCHITECTURES`."""
        ...

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def head_dim(self) -> int: ...

    def __hash__(self) -> int: ...

    def for_tokenizer(self, count: int) -> Self:
        """The model of a tokenizer with `count` ids: none beyond is ever drawn."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Fields under their published names; `Architecture.read_config` reads them back alone."""
        ...
