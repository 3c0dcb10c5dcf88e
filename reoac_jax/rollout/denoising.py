"""The denoising loop that all who decide share: the operator policy and every sampler.

Each turn predicts where a prediction is needed, lets the decider move the rows, and looks after who
has a prediction already. What is decided, and what is remembered of a row, is the decider's.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from reoac_jax.backbone.kept import Kept
from reoac_jax.backbone.prediction import Prediction, States
from reoac_jax.rollout.slots import Anywhere, Turn, Worked, select_rows, work_through
from reoac_jax.rollout.types import DenoiseFn, KeepingDenoiser, Prompts, StepWatcher


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


@runtime_checkable
class InBlocks(Protocol):
    """A `Decider` that leaves what stands before some position as it is."""

    def start(self, state: Any) -> jax.Array:
        """int32 `[B]`: the first generated position that may still change."""


class _Memory(NamedTuple):
    """keys: of each row, as a pass over the whole of it gave them. start: int32 `[B]`, the position
    whose block that pass began; -1: none was made.
    """

    keys: Kept
    start: jax.Array


class _Carry(NamedTuple):
    state: Any
    prediction: Prediction
    fresh: jax.Array
    kept: jax.Array
    memory: _Memory | None = None


def _states(carry: _Carry) -> tuple[States, ...]:
    """The states of the rows' last passes, where predictions have them."""
    return () if carry.prediction.states is None else (carry.prediction.states,)


def denoise_rows(
    denoise: DenoiseFn | KeepingDenoiser,
    decider: Decider,
    prompts: Prompts,
    beside: Any,
    max_steps: int,
    slots: int | None = None,
    count: jax.Array | None = None,
    on_step: StepWatcher | None = None,
    anywhere: Anywhere | None = None,
) -> Worked:
    """Denoises rows; pure, for `jit`.

    Rows whose prediction still holds go first and need no forward pass; the others then share one.
    Where keys and values are kept, rows within a block go before those that begin one: the former
    share a pass over what is left of them, the latter one over whole rows.

    Args:
      denoise: one forward pass, or those that keep keys and values; then the decider is `InBlocks`
        too, and the passes are counted by kind: whole, then by width. decider: who decides.
      prompts: `Prompts` `[N]`. beside: pytree `[N, ...]`, what else the decider reads of a row: its
        `rows` are the pair of both.
      max_steps: T, that a row takes at most.
      slots: rows denoised together; the others wait for one of them to finish. None: all.
      count: int32 `[]`, how many of the rows, the first ones, are to be denoised. None: all.
      on_step: is called from the loop, if given.
      anywhere: as in `work_through`; None: this device goes on by itself. With it a pass is made
        as soon as one device needs it, and is not read where the prediction still holds.
    """
    size = prompts.lengths.shape[0]
    slots = size if slots is None else slots

    keeping = denoise if isinstance(denoise, KeepingDenoiser) else None
    a_pass: Callable[..., Any] = denoise.whole if isinstance(denoise, KeepingDenoiser) else denoise

    def begin(rows: tuple[Prompts, Any]) -> _Carry:
        state = decider.begin(rows)
        nowhere, first = jnp.zeros(slots, bool), jnp.zeros(slots, jnp.int32)
        shapes = jax.eval_shape(a_pass, rows[0], decider.tokens(state), first)
        made = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        if keeping is None:
            return _Carry(state, made, fresh=nowhere, kept=nowhere)
        prediction, keys = made
        return _Carry(state, prediction, nowhere, nowhere, _Memory(keys, first - 1))

    def turn(rows: tuple[Prompts, Any], carry: _Carry, step: jax.Array, busy: jax.Array) -> Turn:
        finished = decider.finished(carry.state, step)
        open_rows = busy & ~finished
        fresh = carry.fresh & open_rows
        ready = fresh.any()
        active = jnp.where(ready, fresh, open_rows)
        if keeping is None:
            prediction, passes = plain(rows[0], carry, step, open_rows, ready)
        else:
            prediction, passes, memory, active = kept_pass(rows[0], carry, step, active, ready)
            carry = carry._replace(memory=memory)
        made = decider.decide(rows, carry.state, prediction, step, active, ~carry.kept)
        after = _Carry(made.state, made.prediction, made.fresh, made.kept, carry.memory)
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
            passes=passes.astype(jnp.int32) + made.passes,
        )

    def plain(
        prompts: Prompts, carry: _Carry, step: jax.Array, open_rows: jax.Array, ready: jax.Array
    ) -> tuple[Prediction, jax.Array]:
        """The prediction, and bool `[]`: whether a pass was made for it."""
        tokens = decider.tokens(carry.state)
        passes = ~ready
        if anywhere is not None:
            passes = anywhere(passes & open_rows.any())
        prediction = jax.lax.cond(
            passes,
            lambda: a_pass(prompts, tokens, step, *_states(carry)),
            lambda: carry.prediction,
        )
        if anywhere is not None:
            ours = jnp.full_like(open_rows, ready)
            prediction = select_rows(ours, carry.prediction, prediction)
        return prediction, passes

    def kept_pass(
        prompts: Prompts, carry: _Carry, step: jax.Array, active: jax.Array, ready: jax.Array
    ) -> tuple[Prediction, jax.Array, _Memory, jax.Array]:
        """The prediction, bool `[1 + widths]`: which pass was made, what is kept, who acts."""
        assert keeping is not None and carry.memory is not None and isinstance(decider, InBlocks)
        tokens, start = decider.tokens(carry.state), decider.start(carry.state)
        keys, known = carry.memory
        stale = active & ~ready & (known != start)
        within = active & ~stale
        # Who begins a block waits until all do: a pass over whole rows is the dear one.
        renew = stale.any() & ~within.any()
        stale &= renew
        active = jnp.where(renew, stale, within)
        left = jnp.where(active, tokens.shape[1] - start, 0).max()
        narrower = (left > jnp.array(keeping.widths[:-1], jnp.int32)).sum(dtype=jnp.int32)
        kind = jnp.where(ready, 0, jnp.where(renew, 1, 2 + narrower))

        def no_pass() -> tuple[Prediction, Kept]:
            return carry.prediction, keys

        def whole() -> tuple[Prediction, Kept]:
            return a_pass(prompts, tokens, step, *_states(carry))

        def window(width: int) -> Callable[[], tuple[Prediction, Kept]]:
            def run() -> tuple[Prediction, Kept]:
                seen = _states(carry)
                return keeping.window(prompts, tokens, step, keys, start, width, *seen), keys

            return run

        prediction, made = jax.lax.switch(kind, [no_pass, whole, *map(window, keeping.widths)])
        # Of a row that waits nothing changes, whatever its neighbours' passes say of it.
        prediction = select_rows(active, prediction, carry.prediction)
        memory = _Memory(select_rows(stale, made, keys), jnp.where(stale, start, known))
        return prediction, jnp.arange(1, 2 + len(keeping.widths)) == kind, memory, active

    everything = size if count is None else count
    together = {} if anywhere is None else {"anywhere": anywhere}
    return work_through((prompts, beside), everything, slots, begin, turn, max_steps, **together)
