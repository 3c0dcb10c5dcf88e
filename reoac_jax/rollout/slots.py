"""Continuous batching on the device: a few slots work through a queue of rows.

Each slot holds one row and its own step number. When a row is finished, its slot takes the next
waiting row, so that the cost follows the mean number of steps and not that of the longest row.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Turn(NamedTuple):
    """What one turn of all slots gave; `B` slots.

    state: pytree `[B, ...]`, also of slots that did not act. record: pytree `[B, ...]`.
    outcome: pytree `[B, ...]`, what is kept of a row that is done. acted: bool `[B]`, the slots
    whose row took a step. done: bool `[B]`, the row is finished: by this step, or from the start.
    passes: int32 `[]`, forward passes of all slots together that the turn made; `[K]` where they
    are of several kinds.
    """

    state: Any
    record: Any
    outcome: Any
    acted: jax.Array
    done: jax.Array
    passes: jax.Array


# (rows [B, ...] of the queue, state [B, ...], step int32 [B], busy bool [B]) -> Turn
TurnFn = Callable[[Any, Any, jax.Array, jax.Array], Turn]
# rows [B, ...] of the queue -> state [B, ...] before their first step
BeginFn = Callable[[Any], Any]
# flag bool [] -> bool []
Anywhere = Callable[[jax.Array], jax.Array]


class Worked(NamedTuple):
    """records: `[T, N, ...]`, zero where a row took no step. outcomes: `[N, ...]`, zero for rows
    that were not worked on. passes: int32 `[]` or `[K]`, forward passes of all slots together.
    """

    records: Any
    outcomes: Any
    passes: jax.Array


class _Loop(NamedTuple):
    entry: jax.Array  # int32 [B]: the row of the queue in each slot; `count` or more: idle
    step: jax.Array  # int32 [B]: steps that this row has taken
    waiting: jax.Array  # int32 []: the first row of the queue that no slot has taken
    state: Any
    worked: Worked


def work_through(
    queue: Any,
    count: jax.Array | int,
    slots: int,
    begin: BeginFn,
    turn: TurnFn,
    max_steps: int,
    anywhere: Anywhere = lambda flag: flag,
) -> Worked:
    """Runs every row of the queue to its end; pure, for `jit`.

    A turn need not move every busy slot, but it must move one, here or where else turns are taken
    together with these.

    Args:
      queue: pytree `[N, ...]`, what a turn reads of a row. count: how many rows, the first ones.
      slots: B, rows worked on together; at most N. begin: gives rows their first state.
      turn: one step. max_steps: T; a row is finished after that many.
      anywhere: whether a flag is set on some device, where all take their turns together.
    """
    size = jax.tree.leaves(queue)[0].shape[0]
    first = jnp.arange(slots, dtype=jnp.int32)
    step = jnp.zeros(slots, jnp.int32)

    def rows_of(entry: jax.Array) -> Any:
        return jax.tree.map(lambda x: x[jnp.minimum(entry, size - 1)], queue)

    start = begin(rows_of(first))
    shapes = jax.eval_shape(turn, rows_of(first), start, step, step == 0)
    empty = Worked(
        records=jax.tree.map(
            lambda x: jnp.zeros((max_steps, size, *x.shape[1:]), x.dtype), shapes.record
        ),
        outcomes=jax.tree.map(lambda x: jnp.zeros((size, *x.shape[1:]), x.dtype), shapes.outcome),
        passes=jnp.zeros(shapes.passes.shape, jnp.int32),
    )

    def running(loop: _Loop) -> jax.Array:
        return anywhere((loop.entry < count).any())

    def advance(loop: _Loop) -> _Loop:
        entry, step, worked = loop.entry, loop.step, loop.worked
        busy = entry < count
        result = turn(rows_of(entry), loop.state, step, busy)
        target = jnp.where(result.acted, entry, size)  # what lies outside is dropped
        records = jax.tree.map(
            lambda all_, one: all_.at[step, target].set(one, mode="drop"),
            worked.records,
            result.record,
        )
        ended = busy & (result.done | (result.acted & (step == max_steps - 1)))
        target = jnp.where(ended, entry, size)
        outcomes = jax.tree.map(
            lambda all_, one: all_.at[target].set(one, mode="drop"), worked.outcomes, result.outcome
        )
        following = jnp.minimum(loop.waiting + jnp.cumsum(ended) - 1, size)
        entry = jnp.where(ended, following, entry).astype(jnp.int32)
        return _Loop(
            entry=entry,
            step=jnp.where(ended, 0, step + result.acted),
            waiting=loop.waiting + ended.sum(),
            state=select_rows(ended, begin(rows_of(entry)), result.state),
            worked=Worked(records, outcomes, worked.passes + result.passes),
        )

    loop = _Loop(first, step, jnp.int32(slots), start, empty)
    return jax.lax.while_loop(running, advance, loop).worked


def select_rows(where: jax.Array, new: Any, old: Any) -> Any:
    """Pytree `[B, ...]`: `new` at the rows in `where`, bool `[B]`, else `old`."""

    def select(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    return jax.tree.map(select, new, old)
