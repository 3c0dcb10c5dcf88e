"""The replay buffer: who leaves first, what is drawn and how often, and its round trip."""

import jax
import numpy as np
import pytest
from scipy import stats

from reoac_jax.learning.objectives.generated import Generated
from reoac_jax.learning.objectives.reference import Reference
from reoac_jax.learning.replay import Episodes, Replay
from reoac_jax.policy.observation import Observation

T, P, G, F = 4, 3, 2, 5


def episodes(numbers, rng=None):
    """Episodes that carry their number in every field, and step t as number + t / 10."""
    rng = np.random.default_rng(list(numbers)) if rng is None else rng
    number = np.array(list(numbers), np.int32)
    count = len(number)
    step = number[:, None] * 10 + np.arange(T)
    wide = np.broadcast_to(step[:, :, None], (count, T, F))
    return Episodes(
        prompt=np.repeat(number[:, None], P, axis=1),
        prompt_length=number % P + 1,
        reference=np.repeat(number[:, None], G, axis=1),
        final=np.repeat(number[:, None] + 1000, G, axis=1),
        returns_to_go=0.5 * step.astype(np.float32),
        actor_advantage=-step.astype(np.float32),
        backbone_advantage=-2.0 * step.astype(np.float32),
        active=rng.random((count, T)) < 0.6,
        observation=Observation(
            wide.astype(np.float32),
            progress=-wide.astype(np.float32),
            notation=2 * wide.astype(np.float32),
        ),
        operator=(step % 5).astype(np.int32),
        chosen=((step + 1) % 5).astype(np.int32),
        decided=rng.random((count, T)) < 0.5,
        legal=step[:, :, None] % 2 == np.arange(2),
        log_prob=-step.astype(np.float32),
        tokens=np.broadcast_to(step[:, :, None], (count, T, G)).astype(np.int32),
        written=rng.random((count, T, G)) < 0.4,
        token_log_prob=-rng.random((count, T, G)).astype(np.float32),
    )


def backbone_batch(replay, rng, size):
    (batch,) = replay.backbone_batches(rng, size, 1, Reference().target)
    return batch


def transitions(data, where):
    return {
        10 * int(number) + step
        for number, row in zip(data.prompt[:, 0], where, strict=True)
        for step in np.flatnonzero(row)
    }


def joined(parts):
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def test_oldest_leave_first():
    replay, held = Replay(7), []
    rng = np.random.default_rng(0)
    following = 0
    for count in (3, 1, 5, 7, 2, 4, 6, 1):
        new = episodes(range(following, following + count), rng)
        following += count
        replay.add(new)
        held.append(new)
        latest = jax.tree.map(lambda x: x[-7:], joined(held))
        assert len(replay) == len(latest.prompt) == min(following, 7)
        assert replay.added == following
        drawn = replay.head_batch(np.random.default_rng(1), 2000)
        seen = set(drawn.observation.alignment[:, 0].astype(int).tolist())
        assert seen == transitions(latest, latest.active)


def test_head_batch_draws_active_transitions_uniformly():
    data = episodes(range(20))
    replay = Replay(32)
    replay.add(data)
    size = 40_000
    batch = replay.head_batch(np.random.default_rng(0), size)
    wanted = sorted(transitions(data, data.active))
    step = batch.observation.alignment[:, 0].astype(int)
    counts = np.array([(step == w).sum() for w in wanted])
    assert counts.sum() == size
    assert stats.chisquare(counts).pvalue > 1e-3
    number, t = step // 10, step % 10
    np.testing.assert_array_equal(batch.operator, step % 5)
    np.testing.assert_array_equal(batch.chosen, (step + 1) % 5)
    np.testing.assert_array_equal(batch.log_prob, -step)
    np.testing.assert_array_equal(batch.legal, step[:, None] % 2 == np.arange(2))
    np.testing.assert_array_equal(batch.returns_to_go, 0.5 * step)
    np.testing.assert_array_equal(batch.advantage, -step)
    np.testing.assert_array_equal(batch.decided, data.decided[number, t])


@pytest.mark.parametrize("added", [4, 9, 13])
def test_only_the_latest_episodes_where_asked_for(added):
    replay = Replay(9)
    for start in range(0, added, 1):
        replay.add(episodes([start]))
    every = joined([episodes([number]) for number in range(added)])
    latest = jax.tree.map(lambda x: x[-4:], every)
    drawn = replay.head_batch(np.random.default_rng(0), 2000, latest=4)
    seen = set(drawn.observation.alignment[:, 0].astype(int).tolist())
    assert seen == transitions(latest, latest.active)
    wrote = transitions(latest, latest.active & latest.written.any(axis=-1))
    batches = replay.backbone_batches(
        np.random.default_rng(0), 5, 2 * len(wrote), Generated().target, latest=4
    )
    drawn = np.concatenate([batch.tokens[:, 0] for batch in batches]).reshape(-1, len(wrote))
    # Ten epochs, each of every transition once, in orders of their own.
    assert len(drawn) == 10 and all(set(epoch.tolist()) == wrote for epoch in drawn)
    assert len({tuple(epoch.tolist()) for epoch in drawn}) > 1 or len(wrote) < 2


@pytest.mark.parametrize("objective", [Reference(), Generated()])
def test_backbone_batch_draws_transitions_that_wrote(objective):
    data = episodes(range(20))
    replay = Replay(20)
    replay.add(data)
    size = 40_000
    (batch,) = replay.backbone_batches(np.random.default_rng(0), size, 1, objective.target)
    where = data.active & data.written.any(axis=-1)
    assert where.sum() < data.active.sum()
    wanted = sorted(transitions(data, where))
    step = batch.tokens[:, 0]
    counts = np.array([(step == w).sum() for w in wanted])
    assert counts.sum() == size
    assert stats.chisquare(counts).pvalue > 1e-3
    number, t = step // 10, step % 10
    np.testing.assert_array_equal(batch.step, t)
    own = objective == Generated()
    np.testing.assert_array_equal(batch.advantage, -2 * step)
    np.testing.assert_array_equal(batch.target[:, 0], number + 1000 * own)
    np.testing.assert_array_equal(batch.prompt[:, 0], number)
    np.testing.assert_array_equal(batch.prompt_length, number % P + 1)
    assert sorted(map(tuple, np.sort(batch.position, axis=1).tolist()))[0] == (0, 1)
    rows = np.arange(size)[:, None]
    for name in ("written", "token_log_prob"):
        got = batch.written if name == "written" else batch.log_prob
        there = getattr(data, name)[number, t][rows, batch.position]
        np.testing.assert_array_equal(got, there)
    assert (batch.written[:, 0] >= batch.written[:, 1]).all()  # those that were written first
    assert batch.step.dtype == np.int32


def test_same_generator_same_draws():
    replay = Replay(8)
    replay.add(episodes(range(8)))
    first, again, other = (replay.head_batch(np.random.default_rng(s), 30) for s in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.observation.alignment != other.observation.alignment).any()


def test_parts_that_are_not_observed_take_no_room():
    replay = Replay(8)
    replay.add(episodes(range(8)))
    batch = replay.head_batch(np.random.default_rng(0), 30).observation
    assert batch.pooled is None and batch.preview is None
    np.testing.assert_array_equal(batch.progress, -batch.alignment)
    assert set(replay.state()["observation"]) == {"alignment", "progress", "notation"}


@pytest.mark.parametrize("count", [3, 5, 8])
def test_state_round_trip(count):
    """Before it is full, when it is, and after the ring went round; then both go on alike."""
    replay, rebuilt = Replay(5), Replay(5)
    for number in range(count):
        replay.add(episodes([number]))
    state = replay.state()
    kept = jax.tree.map(np.copy, state)
    rebuilt.restore(state)
    for number in range(count, count + 7):
        assert len(replay) == len(rebuilt) and replay.added == rebuilt.added
        for draw in (Replay.head_batch, backbone_batch):
            pair = (draw(x, np.random.default_rng(0), 50) for x in (replay, rebuilt))
            for x, y in zip(*map(jax.tree.leaves, pair), strict=True):
                np.testing.assert_array_equal(x, y)
                assert x.dtype == y.dtype
        replay.add(episodes([number]))
        rebuilt.add(episodes([number]))
    # A copy: later episodes leave it alone.
    jax.tree.map(np.testing.assert_array_equal, state, kept)


def test_errors():
    replay = Replay(3)
    rng = np.random.default_rng(0)
    for draw in (Replay.head_batch, backbone_batch):
        with pytest.raises(ValueError, match="empty"):
            draw(replay, rng, 2)
    with pytest.raises(ValueError, match="empty"):
        replay.state()
    with pytest.raises(ValueError, match="4 episodes do not fit a buffer of 3"):
        replay.add(episodes(range(4)))
    nothing = episodes(range(2))._replace(written=np.zeros((2, T, G), bool))
    replay.add(nothing._replace(active=np.ones((2, T), bool)))
    replay.head_batch(rng, 2)
    with pytest.raises(ValueError, match="no transition"):
        backbone_batch(replay, rng, 2)
    replay.add(nothing._replace(active=np.zeros((2, T), bool)))
    replay.add(nothing._replace(active=np.zeros((2, T), bool)))
    with pytest.raises(ValueError, match="no transition"):
        replay.head_batch(rng, 2)
