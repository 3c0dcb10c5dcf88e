"""Continuous batching: every row as if alone, in the fewest turns that its slots allow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import toy
from support.toy_rollout import BATCH, VARIANTS, prompts_of, whole_batch, world

from reoac_jax.rollout import backbone_denoiser, rollout
from reoac_jax.rollout.slots import Turn, work_through

ROWS, STEPS = 9, 5


@functools.partial(jax.jit, static_argnums=2)
def countdown(lengths, count, slots):
    """Rows that add their own number at each step, and are done after `lengths` steps."""

    def turn(rows, total, step, busy):
        total = jnp.where(busy, total + rows["number"], total)
        done = step + 1 >= rows["length"]
        record = {"total": total, "step": step}
        return Turn(total, record, total, busy, done, jnp.int32(1))

    queue = {"number": jnp.arange(1, ROWS + 1), "length": lengths}

    def begin(rows):
        return jnp.zeros(rows["number"].shape, jnp.int32)

    return work_through(queue, count, slots, begin, turn, STEPS)


def plain_turns(lengths, slots):
    """Turns until all rows are done, each slot taking the next row when its own is done."""
    waiting, left, turns = list(lengths), [], 0
    while waiting or left:
        left += [waiting.pop(0) for _ in range(min(slots - len(left), len(waiting)))]
        left = [steps - 1 for steps in left if steps > 1]
        turns += 1
    return turns


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, STEPS + 2), min_size=ROWS, max_size=ROWS),
    count=st.integers(1, ROWS),
    slots=st.sampled_from([1, 4, ROWS]),
)
def test_every_row_is_worked_on_once_and_in_the_fewest_turns(lengths, count, slots):
    worked = jax.device_get(countdown(jnp.array(lengths, jnp.int32), jnp.int32(count), slots))
    for row in range(ROWS):
        steps = min(lengths[row], STEPS) if row < count else 0
        expected = np.zeros(STEPS, int)
        expected[:steps] = (row + 1) * np.arange(1, steps + 1)
        assert worked.records["total"][:, row].tolist() == expected.tolist()
        assert worked.records["step"][:steps, row].tolist() == list(range(steps))
        assert worked.outcomes[row] == expected.max()
    assert worked.passes == plain_turns([min(n, STEPS) for n in lengths[:count]], slots)


@functools.cache
def in_three_slots(settings):
    """prompts, count -> the rollout of the first rows of `whole_batch`, three at a time."""
    model, variables, modules, head_params = world(settings)

    @jax.jit
    def run(prompts, count):
        denoise = backbone_denoiser(model, variables, settings)
        heads = functools.partial(modules.apply, head_params)
        return rollout(denoise, heads, prompts, toy.vocabulary(), settings, 3, count)

    return run


def in_few_places(settings, count):
    return jax.device_get(in_three_slots(settings)(prompts_of(settings), jnp.int32(count)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["denoise_thresholds", "denoise_mask_branch", "denoise_idle"])
def test_a_row_is_the_same_in_few_places(name):
    settings = toy.rollout_settings(**VARIANTS[name])
    whole = whole_batch(settings)
    part, passes = in_few_places(settings, BATCH - 1)
    np.testing.assert_array_equal(part.tokens[:-1], whole.tokens[:-1])
    assert not part.tokens[-1].any() and not part.steps.active[:, -1].any()
    for field in ("active", "operator", "chosen", "cost", "forward_passes", "written", "tokens"):
        np.testing.assert_array_equal(
            getattr(part.steps, field)[:, :-1], getattr(whole.steps, field)[:, :-1], field
        )
    needed = part.steps.forward_passes.sum()
    assert needed <= 3 * passes
    if name == "denoise_thresholds":  # waiting for the longest of each three would cost more
        steps = whole.steps.active.sum(axis=0)[:-1]
        assert passes < sum(steps[i : i + 3].max() for i in range(0, BATCH - 1, 3))


@pytest.mark.slow
def test_a_step_that_changed_nothing_needs_no_forward_pass():
    """The rows' forward passes, and those that were really made, are fewer than their steps."""
    settings = toy.rollout_settings(**VARIANTS["denoise_idle"])
    steps = whole_batch(settings).steps
    idle = steps.active & ~steps.written.any(axis=-1)
    after_idle = np.append(np.zeros((1, BATCH), bool), idle[:-1], axis=0) & steps.active
    assert after_idle.sum() > 3
    np.testing.assert_array_equal(steps.forward_passes, steps.active & ~after_idle)
    _, passes = in_few_places(settings, 1)
    assert passes == steps.forward_passes[:, 0].sum()
