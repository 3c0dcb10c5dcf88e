"""The rollout under a policy over positions: against a plain loop, and what it must keep."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from support.toy_rollout import BATCH, run, world

from reoac_jax.policy.distributions import AnyPositions
from reoac_jax.policy.features import extra_features
from reoac_jax.policy.observation import Observation, PositionRows
from reoac_jax.rollout import backbone_denoiser

pytestmark = pytest.mark.slow

SETTINGS = toy.rollout_settings(
    positions=True, use_hidden=False, extra_features=True, max_steps=4, branch_k=0
)
# The same, with an actor that reads each position's hidden state and proposal.
READING = dataclasses.replace(SETTINGS, rows=True)
# And with one that is told which tokens are numbers.
NUMBERS = dataclasses.replace(SETTINGS, numbers=True)
G, T = SETTINGS.gen_len, SETTINGS.max_steps


@functools.cache
def rolled_out(mode="sample", settings=SETTINGS):
    settings = dataclasses.replace(settings, selection_mode=mode)
    return run(settings, toy.prompts(BATCH)._replace(given=toy.given(BATCH)))


@functools.cache
def parts(settings):
    """The denoiser of one row, the heads and the progress, as the plain loop calls them."""
    model, variables, modules, head_params = world(settings)
    denoise = jax.jit(backbone_denoiser(model, variables, settings))
    heads = jax.jit(functools.partial(modules.apply, head_params))
    return denoise, heads, jax.jit(extra_features, static_argnums=4)


def plain_row(b, mode, settings):
    """One row, one step at a time: what was drawn, what was written, the tokens at the end."""
    denoise, heads, progress_of = parts(settings)
    prompt = jax.tree.map(lambda x: x[b : b + 1], toy.prompts(BATCH))
    tokens = np.asarray(toy.given(BATCH))[b].copy()
    sure, drawn, written = (tokens != toy.MASK_ID).astype(np.float32), [], []
    unsure = np.zeros(G, np.float32)
    for step in range(T):
        masked = tokens == toy.MASK_ID
        if not masked.any():
            break
        at = jnp.array([step], jnp.int32)
        whole = jax.tree.map(
            lambda x: np.asarray(x[0]), denoise(prompt, jnp.array(tokens)[None], at)
        )
        prediction = whole.tokens
        confidence = np.where(masked, prediction.confidence, sure)
        progress = progress_of(
            jnp.float32(step / T), masked, prediction.confidence, prediction.entropy,
            toy.VOCAB_SIZE,
        )  # fmt: skip
        positions = [confidence, masked.astype(np.float32)]
        if settings.numbers:
            filled = np.where(masked, prediction.token, tokens)
            positions.append(toy.vocabulary().has_digit[filled].astype(np.float32))
        seen = Observation(progress=progress[None], positions=jnp.stack(positions, axis=-1)[None])
        if settings.rows:
            rows = PositionRows(
                np.where(masked, prediction.token, tokens),
                confidence,
                np.where(masked, prediction.entropy, unsure),
                masked,
                whole.states.hidden,
            )
            seen = seen._replace(rows=jax.tree.map(lambda x: x[None], rows))
        logits = np.asarray(heads(seen, at).logits[0], np.float64)
        chance = 1 / (1 + np.exp(-logits))
        if mode == "argmax":
            chosen = masked & (chance > 0.5)
        else:
            key = jax.random.fold_in(jax.random.fold_in(prompt.keys[0], step), 1)
            chosen = masked & (np.asarray(jax.random.uniform(key, (G,))) < chance)
        reveal = chosen.copy()
        if not reveal.any():
            reveal[max(np.flatnonzero(masked), key=lambda i: logits[i])] = True
        if step == T - 1:
            reveal = masked
        tokens = np.where(reveal, prediction.token, tokens)
        sure = np.where(reveal, prediction.confidence, sure)
        unsure = np.where(reveal, prediction.entropy, unsure)
        drawn.append(chosen)
        written.append(reveal)
    return drawn, written, tokens


@pytest.mark.parametrize(
    ("mode", "settings"),
    [("sample", SETTINGS), ("argmax", NUMBERS), ("sample", READING)],
    ids=("sample", "numbers, argmax", "rows"),
)
def test_equals_a_plain_loop(mode, settings):
    result = rolled_out(mode, settings)
    for b in (*range(4), BATCH - 1):
        drawn, written, tokens = plain_row(b, mode, settings)
        steps = jax.tree.map(lambda x, b=b: x[:, b], result.steps)
        assert steps.active.sum() == len(drawn)
        for t, (chosen, reveal) in enumerate(zip(drawn, written, strict=True)):
            np.testing.assert_array_equal(steps.chosen[t], chosen)
            np.testing.assert_array_equal(steps.written[t], reveal)
        np.testing.assert_array_equal(result.tokens[b], tokens)


def test_each_step_writes_what_is_masked_and_one_position_at_least():
    result = rolled_out()
    steps = result.steps
    active = steps.active
    masked = steps.tokens == toy.MASK_ID
    assert (steps.written[active].sum(axis=-1) >= 1).all()
    assert not (steps.written & ~masked)[active].any()
    np.testing.assert_array_equal(steps.legal[active], masked[active])
    # What is recorded is what was drawn, also where one was revealed that was not.
    forced = active & ~steps.chosen.any(axis=-1)
    forced[-1] = False
    assert (steps.written[forced].sum(axis=-1) == 1).all()
    others = active & steps.decided & ~forced
    np.testing.assert_array_equal(steps.written[others], steps.chosen[others])
    # The last step reveals all, whatever is drawn.
    assert active[-1].any() and not steps.decided[-1].any()
    np.testing.assert_array_equal(steps.written[-1][active[-1]], masked[-1][active[-1]])
    assert (result.tokens != toy.MASK_ID).all()
    assert not active[:, -1].any()  # a row without blanks takes no step
    np.testing.assert_array_equal(steps.forward_passes, active)
    np.testing.assert_allclose(steps.cost[active], min(SETTINGS.costs))
    assert steps.q is steps.operator is steps.observation.alignment is None


def test_the_ratio_is_one_before_anything_is_learned():
    """The probability that the recorded logits give a choice is the present policy's."""
    _, _, modules, head_params = world(SETTINGS)
    steps = rolled_out().steps
    seen = jax.tree.map(lambda x: x[steps.active], steps.observation)
    logits = jax.jit(modules.apply)(head_params, seen).logits
    legal, chosen = steps.legal[steps.active], steps.chosen[steps.active]
    now = AnyPositions(logits, legal).log_prob(chosen)
    then = AnyPositions(steps.logits[steps.active], legal).log_prob(chosen)
    assert np.abs(np.exp(now - then) - 1).max() < 1e-5
    assert np.ptp(then) > 0.5


def test_rows_do_not_depend_on_their_neighbours():
    rows = range(BATCH)[::-1]
    prompts = toy.prompts(BATCH, rows=rows)._replace(given=toy.given(BATCH)[::-1])
    other, result = run(SETTINGS, prompts), rolled_out()
    np.testing.assert_array_equal(other.tokens, result.tokens[::-1])
    np.testing.assert_array_equal(other.steps.chosen, result.steps.chosen[:, ::-1])
