"""What goes into a rollout and what comes out."""

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from reoac_jax.backbone.kept import Kept
from reoac_jax.backbone.prediction import Prediction, States
from reoac_jax.devices.arrays import ArrayT
from reoac_jax.policy.heads import HeadOutput
from reoac_jax.policy.observation import Observation
from reoac_jax.rollout.settings import RolloutSettings


class Prompts(NamedTuple, Generic[ArrayT]):
    """A batch of prompts.

    tokens: int32 `[B, P]`, right-padded. lengths: int32 `[B]`, at least 1.
    key_mask: bool `[B, P]`, the key set K. keys: PRNG keys `[B]`, one a row: all that is random in
    a row derives from its key, so that neighbours and devices do not matter.
    given: int32 `[B, G]`, the generated region at the start: tokens that are there already and
    never change, and masks where something is to be written. None: nothing but masks.
    """

    tokens: ArrayT
    lengths: ArrayT
    key_mask: ArrayT
    keys: ArrayT
    given: ArrayT | None = None


class Generated(NamedTuple):
    """The generated region of a batch.

    tokens: int32 `[B, G]`. confidence: float32 `[B, G]`, when written. entropy: float32 `[B, G]`,
    of the distribution it was drawn from, nats. The last two are 0 at positions never written.
    fixed: bool `[B, G]`, given from the start: certain (confidence 1), and nothing changes it.
    """

    tokens: jax.Array
    confidence: jax.Array
    entropy: jax.Array
    fixed: jax.Array

    @classmethod
    def start(cls, prompts: Prompts, settings: RolloutSettings) -> "Generated":
        """The region before the first step."""
        tokens = prompts.given
        if tokens is None:
            shape = (prompts.lengths.shape[0], settings.gen_len)
            tokens = jnp.full(shape, settings.mask_id, jnp.int32)
        fixed = tokens != settings.mask_id
        return cls(tokens, fixed.astype(jnp.float32), jnp.zeros(tokens.shape, jnp.float32), fixed)


class Candidates(NamedTuple, Generic[ArrayT]):
    """What a branching step compared, `K = branch_k` each; 0 where a row did not branch.

    operator: int32 `[..., K]`. value: float32 `[..., K]`, max_a Q(next). cost: float32 `[..., K]`.
    """

    operator: ArrayT
    value: ArrayT
    cost: ArrayT


class Trajectory(NamedTuple, Generic[ArrayT]):
    """One step of every row; a finished rollout holds them stacked to `[T, N, ...]`.

    active: bool, the row took this step; everything else of an inactive step is zero.
    observation: `Observation`, what actor and critic saw.
    tokens: int32 `[.., G]`, before the step. written: bool `[.., G]`, positions the step wrote.
    repaired: bool `[.., G]`, positions the step put back under the mask.
    confidence: float32 `[.., G]`, of the model's proposal at each position.
    log_prob: float32 `[.., G]`, with which the written tokens were drawn, 0 elsewhere; None where
    `draw.drawn` is off.
    logits, q: float32 `[.., A]`, the heads' outputs. legal: bool `[.., A]`, what could be chosen.
    chosen: int32, the actor's pick. Where positions are chosen logits, legal and chosen, a bool,
    are `[.., G]`, and q is None.
    decided: bool, that pick was the actor's alone to make: False at scheduled branching steps,
    where the candidates' values decide, and in the last step of `denoise`, where everything is
    revealed.
    operator: int32, the operator that is charged: the pick, its fallback, or at a scheduled
    branching step the winner. executed: int32, the operator whose selection was used. None where
    positions are chosen.
    cost: float32. forward_passes: int32, of the backbone and of a critic that is one,
    that this row needed.
    branched: bool. candidates: `Candidates`.
    """

    active: ArrayT
    observation: Observation[ArrayT]
    tokens: ArrayT
    written: ArrayT
    repaired: ArrayT
    confidence: ArrayT
    log_prob: ArrayT | None
    logits: ArrayT
    q: ArrayT | None
    legal: ArrayT
    chosen: ArrayT
    decided: ArrayT
    operator: ArrayT | None
    executed: ArrayT | None
    cost: ArrayT
    forward_passes: ArrayT
    branched: ArrayT
    candidates: Candidates[ArrayT]


class Rollout(NamedTuple, Generic[ArrayT]):
    """steps: `Trajectory` `[T, N, ...]`. tokens: int32 `[N, G]`, the final generated tokens."""

    steps: Trajectory[ArrayT]
    tokens: ArrayT


class DenoiseFn(Protocol):
    """One forward pass of a batch."""

    def __call__(
        self,
        prompts: Prompts,
        generated: jax.Array,
        step: jax.Array,
        before: States | None = None,
        /,
    ) -> Prediction:
        """The backbone's view of the rows.

        Args:
          prompts: `[B]`. generated: int32 `[B, G]`. step: int32 `[B]`, from 0.
          before: `Prediction.states` of each row's last pass, of no meaning at step 0; given only
            where predictions have states.
        """


@runtime_checkable
class KeepingDenoiser(Protocol):
    """Forward passes that keep keys and values.

    widths: generated positions that a pass over a window may compute, ascending; the last is G.
    """

    @property
    def widths(self) -> tuple[int, ...]: ...

    def whole(
        self,
        prompts: Prompts,
        generated: jax.Array,
        step: jax.Array,
        before: States | None = None,
        /,
    ) -> tuple[Prediction, Kept]:
        """As `DenoiseFn`, and the rows' keys and values."""

    def window(
        self,
        prompts: Prompts,
        generated: jax.Array,
        step: jax.Array,
        kept: Kept,
        start: jax.Array,
        width: int,
        before: States | None = None,
        /,
    ) -> Prediction:
        """The backbone's view of the generated positions from int32 `[B]`, `start`, on.

        width: static, enough for every row that is asked about. kept: of the rows; what stands
        before `start` is read from it.
        """


# (Observation [B, ...], step int32 [B]) -> HeadOutput
HeadsFn = Callable[[Observation[jax.Array], jax.Array], HeadOutput]
# (step int32 [B], -1 for a row that took none now, tokens int32 [B, G] behind it, operator int32
# [B] that acted, None for a sampler) -> None, on the host, from the running loop: for looking on.
StepWatcher = Callable[[np.ndarray, np.ndarray, np.ndarray | None], None]
