"""A Flax module as a `Denoiser`: what the architectures derive from.

Shapes: `B` batch, `L` row length, `N` chosen positions, `D` width, `V` rows of the output head.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.backbone.attention import Implementation
from reoac_jax.backbone.interface import ModelSpec, Params, Prepared
from reoac_jax.backbone.kept import Kept, Window


class DenoiserOutput(NamedTuple):
    """logits: float32 `[B, L, V]`, raw and unshifted. hidden: float32 `[B, L, D]`, the last block's
    output, before the final norm.
    """

    logits: jax.Array
    hidden: jax.Array


class DenoiserModule(nn.Module):
    """A Flax module that is a `Denoiser`; subclasses write `condition`, `trunk` and `head`.

    config: the sizes. dtype: operand dtype of the matrix products. attention: "xla" or "cudnn".
    dropout, lora_dropout: rates that act only where a dropout key is given.
    remat: the backward pass computes each block anew from its input, instead of keeping what it
      computed in between.
    """

    config: Any
    dtype: Any = jnp.float32
    attention: Implementation = "xla"
    dropout: float = 0.0
    lora_dropout: float = 0.0
    remat: bool = False

    # Names of the layers whose kernels `cast_for_compute` casts.
    compute_layers: ClassVar[tuple[str, ...]] = ()
    # Whether `trunk_keeping` and `trunk_window` are there.
    keeps_keys: ClassVar[bool] = False
    # Regular expressions over kernels' paths, for LoRA where the configuration names none.
    lora_targets: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:  # Flax declares a union with the state that `mutable` would return too

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    # ---- What a subclass writes: Flax methods, run by `apply`

    def condition(self, sigma: jax.Array | None = None, *, deterministic: bool = True) -> Prepared:
        """What sigma, float32 `[B]`, means to every layer. By default nothing."""
        return Prepared()

    def trunk(
        self,
        rows: jax.Array,
        lengths: jax.Array,
        prepared: Prepared,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        """The last block's output, float32 `[B, L, D]`, from `prepared.trunk`."""
        raise NotImplementedError

    def trunk_keeping(
        self, rows: jax.Array, lengths: jax.Array, prepared: Prepared
    ) -> tuple[jax.Array, Kept]:
        """As `trunk`, and the keys and values; where `keeps_keys`."""
        raise NotImplementedError

    def trunk_window(
        self, rows: jax.Array, lengths: jax.Array, prepared: Prepared, window: Window
    ) -> jax.Array:
        """As `trunk`, of the positions in `window`; where `keeps_keys`."""
        raise NotImplementedError

    def head(
        self, hidden: jax.Array, prepared: Prepared, *, deterministic: bool = True
    ) -> jax.Array:
        """Raw logits, float32 `[B, N, V]`, of states `[B, N, D]`, from `prepared.head`."""
        raise NotImplementedError

    # ---- The user's call

    def __call__(
        self,
        tokens: jax.Array,
        lengths: jax.Array,
        sigma: jax.Array | None = None,
        *,
        deterministic: bool = True,
    ) -> DenoiserOutput:
        """Raw logits and hidden states at every position.

        Args:
          tokens: int32 `[B, L]`, rows right-padded.
          lengths: int32 `[B]`, real tokens of each row, at least 1.
          sigma: float32 `[B]` noise level; ignored, and may be None, unless the model sees it.
          deterministic: False applies dropout (needs the "dropout" key).

        Returns:
          `DenoiserOutput`; what stands at positions beyond `lengths` holds no meaning. SUBS, and
          the shift of a model that reads left, are the caller's work.
        """
        prepared = self.condition(sigma, deterministic=deterministic)
        hidden = self.trunk(tokens, lengths, prepared, deterministic=deterministic)
        return DenoiserOutput(self.head(hidden, prepared, deterministic=deterministic), hidden)

    # ---- `Denoiser`

    @property
    def spec(self) -> ModelSpec:
        return self.config.spec

    @nn.nowrap
    def prepare(
        self,
        variables: Any,
        sigma: jax.Array | None = None,
        *,
        dropout_key: jax.Array | None = None,
    ) -> Prepared:
        return self.apply(variables, sigma, method="condition", **_dropout(dropout_key))

    @nn.nowrap
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
        if window is not None:
            return self.apply(variables, rows, lengths, prepared, window, method="trunk_window")
        return self.apply(
            variables, rows, lengths, prepared, method="trunk", **_dropout(dropout_key)
        )

    @nn.nowrap
    def hidden_and_kept(
        self, variables: Any, rows: jax.Array, lengths: jax.Array, prepared: Prepared
    ) -> tuple[jax.Array, Kept]:
        return self.apply(variables, rows, lengths, prepared, method="trunk_keeping")

    @nn.nowrap
    def generated(self, hidden: jax.Array, first: jax.Array, count: int) -> jax.Array:
        position = first[:, None] + jnp.arange(count)
        if self.spec.reads_left:
            position = jnp.maximum(position - 1, 0)
        return jnp.take_along_axis(hidden, position[:, :, None], axis=1)

    @nn.nowrap
    def logits(
        self,
        variables: Any,
        hidden: jax.Array,
        prepared: Prepared,
        *,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        prepared = prepared._replace(trunk=())
        return self.apply(variables, hidden, prepared, method="head", **_dropout(dropout_key))

    @nn.nowrap
    def is_multiplied(self, names: Sequence[str]) -> bool:
        """Whether the parameter at this place of the tree is an operand of a product in `dtype`."""
        return names[-1] == "kernel" and names[-2] in self.compute_layers

    @nn.nowrap
    def cast_for_compute(self, params: Any) -> Any:
        def cast(path: tuple, leaf: jax.Array) -> jax.Array:
            multiplied = self.is_multiplied([part.key for part in path])
            return leaf.astype(self.dtype) if multiplied else leaf

        return jax.tree_util.tree_map_with_path(cast, params)

    @nn.nowrap
    def parameter_shapes(self) -> Params:
        """The parameter tree with `jax.ShapeDtypeStruct`s, as initialisation makes it."""
        tokens, lengths, sigma = (
            jax.ShapeDtypeStruct((1, 1), jnp.int32),
            jax.ShapeDtypeStruct((1,), jnp.int32),
            jax.ShapeDtypeStruct((1,), jnp.float32),
        )
        made = jax.eval_shape(
            lambda *args: self.init(jax.random.key(0), *args), tokens, lengths, sigma
        )
        return made["params"]


def _dropout(key: jax.Array | None) -> dict[str, Any]:
    if key is None:
        return {"deterministic": True}
    return {"deterministic": False, "rngs": {"dropout": key}}
