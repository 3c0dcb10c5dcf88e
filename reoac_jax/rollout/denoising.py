"""The denoising loop that all who decide share: the operator policy and every sampler.

Each turn predicts where a prediction is needed, lets the decider move the rows, and looks after who
has a prediction already. What is decided, and what is remembered of a row, is the decider's.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import Prediction
from reoac_jax.rollout.slots import Turn, Worked, select_rows, work_through
from reoac_jax.rollout.types import DenoiseFn, Prompts, StepWatcher


class Decision(NamedTuple):
    """What one step makes of the rows, `B` slots; read only where a row is active.

    state: pytree `[B, ...]`, the decider's. record: as in `Turn`.
    finished: bool `[B]`, the row takes no further step.
    prediction: `Prediction` `[B]`, the backbone's view of the rows after the step where `fresh`,
    bool `[B]`; elsewhere stale.
    kept: bool `[B]`, the row got that view by its own doing, so that its next step asks for no
    forward pass. A row that is fresh but not kept got it with its neighbours'.
    operator: int32 `[B]` that acted, for whoever looks on; None: there are none.
    passes: int32 `[]`, forward passes of all slots that the decision itself made.
    """

    state: Any
    record: Any
    finished: jax.Array
    prediction: Prediction
    fresh: jax.Array
    kept: jax.Array
    operator: jax.Array | None
    passes: jax.Array


class Decider(Protocol):
    """Who says what a step writes. Arrays have the slots' axis `[B, ...]` in front."""

    def begin(self, rows: Any) -> Any:
        """The state of rows before their first step."""

    def tokens(self, state: Any) -> jax.Array:
        """int32 `[B, G]`, the generated tokens."""

    def outcome(self, state: Any) -> Any:
        """What is kept of rows that are done, pytree `[B, ...]`."""

    def finished(self, state: Any, step: jax.Array) -> jax.Array:
        """bool `[B]`: rows that take no step; one may be so from the start."""

    def decide(
        self,
        rows: Any,
        state: Any,
        prediction: Prediction,
        step: jax.Array,
        active: jax.Array,
        asked: jax.Array,
    ) -> Decision:
        """One step of the rows in `active`, bool `[B]`.

        rows: of the queue. prediction: of the tokens in `state`. step: int32 `[B]`, from 0.
        asked: bool `[B]`, the row asked the backbone for this prediction.
        """


class _Carry(NamedTuple):
    state: Any
    prediction: Prediction
    fresh: jax.Array
    kept: jax.Array


def denoise_rows(
    denoise: DenoiseFn,
    decider: Decider,
    prompts: Prompts,
    beside: Any,
    max_steps: int,
    slots: int | None = None,
    count: jax.Array | None = None,
    on_step: StepWatcher | None = None,
) -> Worked:
    """Denoises rows; pure, for `jit`.

    Rows whose prediction still holds go first and need no forward pass; the others then share one.

    Args:
      denoise: one forward pass. decider: who decides.
      prompts: `Prompts` `[N]`. beside: pytree `[N, ...]`, what else the decider reads of a row: its
        `rows` are the pair of both.
      max_steps: T, that a row takes at most.
      slots: rows denoised together; the others wait for one of them to finish. None: all.
      count: int32 `[]`, how many of the rows, the first ones, are to be denoised. None: all.
      on_step: is called from the loop, if given.
    """
    size = prompts.lengths.shape[0]
    slots = size if slots is None else slots

    def begin(rows: tuple[Prompts, Any]) -> _Carry:
        state = decider.begin(rows)
        nowhere, first = jnp.zeros(slots, bool), jnp.zeros(slots, jnp.int32)
        shapes = jax.eval_shape(denoise, rows[0], decider.tokens(state), first)
        prediction = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return _Carry(state, prediction, fresh=nowhere, kept=nowhere)

    def turn(rows: tuple[Prompts, Any], carry: _Carry, step: jax.Array, busy: jax.Array) -> Turn:
        finished = decider.finished(carry.state, step)
        open_rows = busy & ~finished
        fresh = carry.fresh & open_rows
        ready = fresh.any()
        active = jnp.where(ready, fresh, open_rows)
        tokens = decider.tokens(carry.state)
        states = () if carry.prediction.states is None else (carry.prediction.states,)
        prediction = jax.lax.cond(
            ready, lambda: carry.prediction, lambda: denoise(rows[0], tokens, step, *states)
        )
        made = decider.decide(rows, carry.state, prediction, step, active, ~carry.kept)
        after = _Carry(made.state, made.prediction, made.fresh, made.kept)
        unmoved = carry._replace(prediction=prediction, fresh=jnp.zeros_like(active))
        result = select_rows(active, after, unmoved)
        if on_step is not None:
            shown = jnp.where(active, step, -1)
            jax.debug.callback(on_step, shown, decider.tokens(result.state), made.operator)
        return Turn(
            state=result,
            record=made.record,
            outcome=decider.outcome(result.state),
            acted=active,
            done=jnp.where(active, made.finished, finished),
            passes=(~ready).astype(jnp.int32) + made.passes,
        )

    everything = size if count is None else count
    return work_through((prompts, beside), everything, slots, begin, turn, max_steps)
