"""Heads that see rows, in rollouts and updates: what is recorded against plain NumPy, hidden states
that are kept against those computed again, a checkpoint's round trip, several devices."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax.linen import Module
from support import toy
from support.toy_rollout import BATCH, run, world
from support.toy_updates import ACTORS, MODES, SETTINGS, initial

from reoac_jax.devices import sharding
from reoac_jax.learning.hidden import hidden_states
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.replay import Episodes, Replay, RowTokens
from reoac_jax.learning.state import checkpoint_items
from reoac_jax.policy.observation import with_hidden

pytestmark = pytest.mark.slow

ROWS = toy.rollout_settings(
    rows=True, keep_hidden=True, use_hidden=False, repair_tokens=1, repair_threshold=0.6
)
REPLAYED = 3 * BATCH // 2


forward = jax.jit(Module.apply, static_argnums=0)
hidden = jax.jit(hidden_states, static_argnums=(0, 3, 4, 5))


@functools.cache
def rolled_out():
    return run(ROWS, toy.prompts(BATCH))


def plain_forward(tokens, row, prompts):
    """Hidden states `[G, D]` and SUBS distributions `[G, V]`, float64, of one unpadded row."""
    model, variables, _, _ = world(ROWS)
    length = int(prompts.lengths[row])
    line = np.concatenate([np.asarray(prompts.tokens[row])[:length], tokens])[None]
    out = forward(model, variables, line.astype(np.int32), np.array([line.shape[1]], np.int32))
    logits = np.asarray(out.logits[0, length:], np.float64)
    logits[:, toy.MASK_ID] = -np.inf
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(out.hidden[0, length:]), p / p.sum(axis=1, keepdims=True)


def test_the_rows_that_heads_see_are_those_of_a_plain_forward_pass():
    prompts, result = toy.prompts(BATCH), rolled_out()
    steps = result.steps
    seen = steps.observation.rows
    assert seen.hidden.shape == (ROWS.max_steps, BATCH, 8, 16) and seen.token.dtype == np.int32
    for row in range(3):
        confidence, entropy = np.zeros(8), np.zeros(8)
        for t in np.flatnonzero(steps.active[:, row]):
            tokens = steps.tokens[t, row]
            states, p = plain_forward(tokens, row, prompts)
            masked = tokens == toy.MASK_ID
            token = seen.token[t, row]
            np.testing.assert_array_equal(seen.masked[t, row], masked)
            np.testing.assert_array_equal(token[~masked], tokens[~masked])
            np.testing.assert_allclose(seen.hidden[t, row], states, atol=1e-4)
            confidence = np.where(masked, p[np.arange(8), token], confidence)
            spread = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)
            entropy = np.where(masked, spread, entropy)
            np.testing.assert_allclose(seen.confidence[t, row], confidence, atol=1e-4)
            np.testing.assert_allclose(seen.entropy[t, row], entropy, atol=1e-4)
            last = t == ROWS.max_steps - 1 or not steps.active[t + 1, row]
            after = result.tokens[row] if last else steps.tokens[t + 1, row]
            written = steps.written[t, row]
            np.testing.assert_array_equal(after[written], token[written])  # as was proposed
    assert (seen.masked & steps.active[..., None]).any() and steps.repaired.any()


def test_hidden_states_need_not_be_recorded():
    """And whether they are changes nothing else."""
    kept = rolled_out()
    lean = run(dataclasses.replace(ROWS, keep_hidden=False), toy.prompts(BATCH))
    assert lean.steps.observation.rows.hidden is None
    observation = with_hidden(kept.steps.observation, None)
    kept = kept._replace(steps=kept.steps._replace(observation=observation))
    jax.tree.map(np.testing.assert_array_equal, lean, kept)


def episodes(rows=range(BATCH)):
    """Those of the rollout, ungraded: what the heads' minibatches take of them."""
    prompts, result = toy.prompts(BATCH), rolled_out()
    steps = jax.tree.map(lambda x: np.swapaxes(x, 0, 1)[np.array(rows)], result.steps)
    size = steps.active.shape
    blank = np.zeros(size, np.float32)
    pick = np.array(rows)
    return Episodes(
        prompt=np.asarray(prompts.tokens)[pick],
        prompt_length=np.asarray(prompts.lengths)[pick],
        reference=result.tokens[pick],
        final=result.tokens[pick],
        returns_to_go=np.random.default_rng(0).random(size).astype(np.float32),
        actor_advantage=np.random.default_rng(1).standard_normal(size).astype(np.float32),
        backbone_advantage=blank,
        active=steps.active,
        observation=steps.observation,
        operator=steps.operator,
        chosen=steps.chosen,
        decided=steps.decided,
        legal=steps.legal,
        log_prob=blank - 1.6,
        tokens=steps.tokens,
        written=steps.written,
        token_log_prob=np.zeros(steps.written.shape, np.float32),
    )


def filled_replay():
    """Of 12 places: the rollout's 8 episodes, then its first 4 once more."""
    replay = Replay(REPLAYED)
    replay.add(episodes())
    replay.add(episodes(range(4)))
    return replay


def test_replayed_rows_are_the_rows_that_were_seen():
    """Those of the episodes added last as they were kept, those of all computed again."""
    replay, rng = filled_replay(), np.random.default_rng(0)
    model, variables, _, _ = world(ROWS)
    latest = replay.head_batch(np.random.default_rng(0), 40, latest=4)
    assert latest.tokens is None
    seen = episodes(range(4))
    where = np.nonzero(seen.active)
    drawn = tuple(x[np.random.default_rng(0).integers(0, len(where[0]), 40)] for x in where)
    np.testing.assert_array_equal(
        latest.observation.rows.hidden, seen.observation.rows.hidden[drawn]
    )
    batch = replay.head_batch(rng, 41)
    assert batch.observation.rows.hidden is None and batch.tokens.prompt.shape == (41, 7)
    again = np.asarray(hidden(model, variables, batch.tokens, ROWS, 16))
    both = jax.tree.map(lambda x, y: np.concatenate([x, y]), episodes(), seen)
    where = np.nonzero(both.active)
    drawn = np.random.default_rng(0).integers(0, len(where[0]), 41)
    episode, step = where[0][drawn], where[1][drawn]
    live = both.observation.rows.hidden[episode, step]
    np.testing.assert_allclose(again, live, atol=1e-4)
    np.testing.assert_array_equal(
        batch.observation.rows.token, both.observation.rows.token[episode, step]
    )


@pytest.mark.parametrize(("at_a_time", "shares"), [(4, 1), (5, 2), (100, 1)])
def test_neither_the_turns_nor_the_neighbours_matter(at_a_time, shares):
    model, variables, _, _ = world(ROWS)
    batch = filled_replay().head_batch(np.random.default_rng(2), 12).tokens
    alone = [
        hidden(model, variables, RowTokens(*(x[i : i + 1] for x in batch)), ROWS, 1)
        for i in (0, 5, 11)
    ]
    whole = hidden(model, variables, batch, ROWS, at_a_time, shares)
    assert whole.shape == (12, 8, 16)
    np.testing.assert_allclose(whole[np.array([0, 5, 11])], np.concatenate(alone), atol=1e-4)


def test_a_checkpoint_has_the_statistics_and_no_hidden_states():
    it, (state, base) = learner(1), start(1)
    replay = filled_replay()
    latest = replay.head_batch(np.random.default_rng(0), 12, latest=4)
    state = it.statistics_step(state, *sharding.split_padded(it.mesh, latest), base)
    items = checkpoint_items(it, state, replay)
    assert items["statistics"] is state.heads.statistics and float(items["statistics"].seen) == 12
    recorded = items["replay"]["observation"]["rows"]
    assert set(recorded) == {"token", "confidence", "entropy", "masked"}
    rebuilt = Replay(REPLAYED)
    rebuilt.restore(items["replay"])
    pair = [x.head_batch(np.random.default_rng(3), 12) for x in (replay, rebuilt)]
    assert pair[0].tokens is not None
    jax.tree.map(np.testing.assert_array_equal, *pair)
    for one in (replay, rebuilt):
        one.add(episodes(range(4, 8)))
    pair = [x.head_batch(np.random.default_rng(3), 12, latest=4) for x in (replay, rebuilt)]
    assert pair[0].tokens is None
    jax.tree.map(np.testing.assert_array_equal, *pair)


@functools.cache
def learner(count):
    model, _, modules, _ = world(ROWS)
    settings = dataclasses.replace(
        SETTINGS, trainable=MODES["lora"], actor=ACTORS["policy_gradient"], rows_at_a_time=3
    )
    return Learner(model, modules, ROWS, settings, sharding.make_mesh(jax.devices()[:count]))


def start(count):
    it, params = learner(count), world(ROWS)[1]["params"]
    state = it.place(initial(it, params))
    return state, sharding.replicate(it.mesh, params)


@functools.cache
def updated(count):
    """Losses and heads after a few updates."""
    it, (state, base) = learner(count), start(count)
    replay, losses = filled_replay(), []
    for seed in range(3):
        batch = replay.head_batch(np.random.default_rng(seed), 10)
        placed = sharding.split_padded(it.mesh, batch)
        state = it.statistics_step(state, *placed, base)
        state, critic = it.critic_step(state, *placed, base)
        state, actor = it.actor_step(state, *placed, base)
        losses.append(jax.device_get(critic | actor))
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state.heads))
    return losses, jax.device_get(state.heads)


def test_updates_do_not_depend_on_the_number_of_devices():
    """10 rows on four devices: the last has one of them and padding."""
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    (losses, heads), (wanted_losses, wanted) = updated(4), updated(1)
    for mine, theirs in zip(losses, wanted_losses, strict=True):
        for name, value in theirs.items():
            np.testing.assert_allclose(mine[name], value, atol=1e-4, err_msg=name)
    assert float(heads.statistics.seen) == 30
    # AdamW divides by the gradient's size: where that is near 0, rounding decides the sign.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=5e-3), heads, wanted)


def test_kept_and_computed_states_are_observed_alike():
    it, (state, base) = learner(1), start(1)
    kept = filled_replay().head_batch(np.random.default_rng(0), 10, latest=4)
    forgetful = filled_replay()
    forgetful.restore(forgetful.state())
    computed = forgetful.head_batch(np.random.default_rng(0), 10, latest=4)
    assert kept.tokens is None and computed.tokens is not None
    assert it.observed(state, kept, base) is kept.observation
    seen = jax.jit(it.observed)(state, computed, base)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4), seen, kept.observation)
