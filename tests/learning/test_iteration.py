"""`update`: which minibatches the gradient steps of an iteration get, and in which order."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from support.toy_updates import ACTORS, MODES, SETTINGS

from reoac_jax.config import load_config
from reoac_jax.devices import sharding
from reoac_jax.learning.iteration import update
from reoac_jax.learning.objectives.trajectory import Trajectory
from reoac_jax.learning.replay import Episodes, Replay
from reoac_jax.policy.observation import Observation

T, G, CAPACITY, LATEST = 3, 2, 8, 4


def episodes(numbers):
    """Episodes that carry their number, and 10 times it plus the step where a step is."""
    number = np.array(numbers, np.int32)
    step = 10 * number[:, None] + np.arange(T, dtype=np.int32)
    wide = np.broadcast_to(step[:, :, None], (len(number), T, G))
    every = np.ones((len(number), T), bool)
    return Episodes(
        prompt=np.repeat(number[:, None], 4, axis=1),
        prompt_length=np.full(len(number), 4, np.int32),
        reference=wide[:, 0] + 1000,
        final=wide[:, 0] + 2000,
        returns_to_go=step.astype(np.float32),
        actor_advantage=step.astype(np.float32),
        backbone_advantage=-step.astype(np.float32),
        active=every,
        observation=Observation(wide.astype(np.float32)),
        operator=step,
        chosen=step,
        decided=every,
        legal=np.ones((*step.shape, 5), bool),
        log_prob=step.astype(np.float32),
        tokens=wide,
        written=np.ones((len(number), T, G), bool),
        token_log_prob=np.zeros((len(number), T, G), np.float32),
    )


class Recorder:
    """A learner whose steps write down what they are given."""

    def __init__(self, settings):
        self.settings, self.mesh = settings, sharding.make_mesh(jax.devices()[:1])
        self.heads = SimpleNamespace(rows=None)  # they see no rows: nothing to standardise
        self.heads_read_base = False
        self.steps = []

    def critic_step(self, state, batch, real, base):
        assert base is None
        return self._note("critic", state, batch.operator, real)

    def actor_step(self, state, batch, real, base):
        assert base is None
        return self._note("actor", state, batch.operator, real)

    def backbone_step(self, state, base, start, batch, real, key):
        assert (base, start) == ("base", "start")
        self.targets = np.asarray(batch.target)
        self.keys = [*getattr(self, "keys", []), jax.random.key_data(key).tolist()]
        return self._note("backbone", state, batch.tokens[:, 0], real)

    def _note(self, name, state, seen, real):
        own = np.asarray(seen)[np.asarray(real) > 0]
        self.steps.append((name, own))
        return state + 1, {f"{name}_loss": np.float32(len(self.steps))}


def updated(configs, settings, *overrides, iteration=3):
    config = load_config(
        configs / "tiny.py",
        ["--config.train.critic_steps=2", "--config.train.actor_steps=3",
         "--config.train.backbone_steps=2", "--config.train.head_batch=200",
         "--config.train.backbone_batch=100", f"--config.train.episodes_per_iter={LATEST}",
         "--config.train.episodes_per_prompt=2", f"--config.train.buffer_size={CAPACITY}",
         *overrides],
    )  # fmt: skip
    learner, replay = Recorder(settings), Replay(CAPACITY)
    for first in range(0, 12, LATEST):
        replay.add(episodes(range(first, first + LATEST)))
    experiment = SimpleNamespace(
        config=config, learner=learner, base="base", start="start", key=jax.random.key(config.seed)
    )
    state, metrics = update(experiment, 0, replay, iteration)
    assert state == len(learner.steps)
    return learner, metrics


def numbers(seen):
    return set((seen // 10).tolist())


@pytest.mark.parametrize("actor", ACTORS)
@pytest.mark.parametrize("mode", MODES)
def test_the_steps_of_an_iteration(configs, actor, mode):
    settings = dataclasses.replace(SETTINGS, actor=ACTORS[actor], trainable=MODES[mode])
    learner, metrics = updated(configs, settings)
    backbone = [] if mode == "frozen" else ["backbone"] * 2
    assert [name for name, _ in learner.steps] == ["critic"] * 2 + ["actor"] * 3 + backbone
    # A metric is the mean over the steps of its kind.
    assert metrics["critic_loss"] == 1.5 and metrics["actor_loss"] == 4.0
    assert ("backbone_loss" in metrics) == (mode != "frozen")
    everything, present = set(range(4, 12)), set(range(8, 12))
    for name, seen in learner.steps:
        own = ACTORS[actor].on_policy if name == "actor" else False
        assert numbers(seen) == (present if own else everything)
        assert len(seen) == (100 if name == "backbone" else 200)
    drawn = [seen.tolist() for _, seen in learner.steps]
    assert all(a != b for a, b in zip(drawn, drawn[1:], strict=False))
    if mode != "frozen":
        assert len({tuple(key) for key in learner.keys}) == 2  # each step has its own dropout
        assert (learner.targets // 1000 == 1).all()  # SETTINGS follow the reference


def test_a_backbone_on_policy_gets_the_present_iterations_transitions_alone(configs):
    learner, _ = updated(configs, dataclasses.replace(SETTINGS, backbone=Trajectory()))
    seen = [numbers(seen) for name, seen in learner.steps if name == "backbone"]
    assert seen == [set(range(8, 12))] * 2


def test_draws_derive_from_the_seed_and_the_iteration(configs):
    def draws(*overrides, **changes):
        """Of each gradient step what it is given; of the backbone's its key of dropout too."""
        learner, _ = updated(configs, SETTINGS, *overrides, **changes)
        return [seen.tolist() for _, seen in learner.steps] + learner.keys

    here = draws()
    assert draws() == here
    for others in (draws(iteration=4), draws("--config.seed=1")):
        assert all(one != other for one, other in zip(here, others, strict=True))


def test_no_steps_switch_an_update_off(configs):
    off = [f"--config.train.{name}_steps=0" for name in ("critic", "actor", "backbone")]
    for index, name in enumerate(("critic", "actor", "backbone")):
        learner, metrics = updated(configs, SETTINGS, off[index])
        assert name not in {kind for kind, _ in learner.steps} and f"{name}_loss" not in metrics
    learner, metrics = updated(configs, SETTINGS, *off)
    assert learner.steps == [] and metrics == {}
