"""Learning a policy over positions: its gradient on a problem of two, and on several devices."""

import dataclasses
import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from support.toy_updates import MODES, SETTINGS, initial

from reoac_jax.config import load_config
from reoac_jax.devices import sharding
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.objectives.policy_gradient import PolicyGradient
from reoac_jax.learning.replay import HeadBatch
from reoac_jax.policy.distributions import AnyPositions
from reoac_jax.policy.observation import Observation
from reoac_jax.system.errors import InputError

OBJECTIVE = PolicyGradient(clip_ratio=0.2, entropy_weight=0.0)
# Two masked positions and one step: what is revealed together, first, second, none of them.
CHOICES = np.array(list(itertools.product((True, False), repeat=2)))
WORTH = np.array([0.2, 1.0, 0.1, 0.0], np.float32)  # the first alone is best
LEGAL = np.ones((4, 2), bool)


def chances(logits):
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    return np.where(CHOICES, p, 1 - p).prod(axis=1)


def gradient_of_the_loss(logits):
    """Of the loss over all choices, each weighing as often as it is drawn: its expectation."""

    logits = jnp.asarray(logits, jnp.float32)

    def loss(x):
        policy = AnyPositions(jnp.broadcast_to(x, (4, 2)), LEGAL)
        old = AnyPositions(jnp.broadcast_to(logits, (4, 2)), LEGAL).log_prob(CHOICES)
        p = jnp.exp(old)
        batch = SimpleNamespace(
            chosen=CHOICES, log_prob=old, advantage=WORTH - (p * WORTH).sum(), decided=p * 4
        )
        real = jnp.full(4, 0.25)
        return OBJECTIVE.loss(policy, None, batch, real).value

    return jax.grad(loss)(logits)


@pytest.mark.parametrize("logits", [(0.0, 0.0), (1.5, -0.5), (-2.0, 1.0)])
def test_the_expected_gradient_is_that_of_the_expected_reward(logits):
    slopes = []
    for place in range(2):
        ahead, behind = (
            (chances(np.array(logits) + sign * 1e-5 * np.eye(2)[place]) * WORTH).sum()
            for sign in (1, -1)
        )
        slopes.append((ahead - behind) / 2e-5)
    np.testing.assert_allclose(-gradient_of_the_loss(logits), slopes, atol=1e-5)


def test_following_it_the_policy_reaches_the_best_choice():
    step = jax.jit(lambda x: x - 2.0 * gradient_of_the_loss(x))
    logits, reached = jnp.zeros(2), []
    for _ in range(60):
        reached.append((chances(logits) * WORTH).sum())
        logits = step(logits)
    assert (np.diff(reached) > 0).all()
    assert reached[0] == pytest.approx(WORTH.mean()) and reached[-1] > 0.95
    np.testing.assert_array_equal(AnyPositions(logits, LEGAL[0]).best(), [True, False])


# ---- On several devices

ROLLOUT = toy.rollout_settings(positions=True, use_hidden=False, extra_features=True)
N = 10


def head_batch(seed):
    rng = np.random.default_rng(seed)
    legal = rng.random((N, 8)) < 0.7
    seen = np.stack([rng.random((N, 8)), legal], axis=-1).astype(np.float32)
    return HeadBatch(
        observation=Observation(
            progress=rng.random((N, 5)).astype(np.float32), positions=seen
        ),
        operator=None,
        chosen=legal & (rng.random((N, 8)) < 0.5),
        legal=legal,
        log_prob=np.float32(-0.7) * legal.sum(axis=1, dtype=np.float32),
        returns_to_go=rng.random(N).astype(np.float32),
        advantage=rng.standard_normal(N).astype(np.float32),
        decided=np.arange(N) % 3 > 0,
    )  # fmt: skip


@functools.cache
def updated(count):
    model, params = toy.backbone(1, blocks=1)
    modules, _ = toy.heads(ROLLOUT)
    settings = dataclasses.replace(SETTINGS, trainable=MODES["frozen"], actor=PolicyGradient())
    mesh = sharding.make_mesh(jax.devices()[:count])
    it = Learner(model, modules, ROLLOUT, settings, mesh)
    state, losses = it.place(initial(it, params)), []
    assert state.heads.critic == ()
    for seed in range(3):
        state, metrics = it.actor_step(state, *sharding.split_padded(mesh, head_batch(seed)))
        losses.append(jax.device_get(metrics))
    return losses, jax.device_get(state.heads.actor)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_updates_do_not_depend_on_the_number_of_devices(count):
    if jax.device_count() < count:
        pytest.skip(f"needs {count} devices")
    (one, actor), (several, other) = updated(1), updated(count)
    for mine, theirs in zip(one, several, strict=True):
        assert mine.keys() == theirs.keys() > {"actor_loss", "actor_entropy", "actor_kl"}
        for name, value in mine.items():
            np.testing.assert_allclose(theirs[name], value, atol=1e-5, err_msg=name)
    assert len({float(metrics["actor_loss"]) for metrics in one}) == 3
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-3), actor, other)


# ---- What a policy over positions does not go with


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rollout.update_rule": "overwrite"}, "expected denoise"),
        ({"rollout.repair_tokens": 1}, "masks none again"),
        ({"rollout.branch_k": 2}, "look-ahead"),
        ({"features.operator_preview": True}, "expected False"),
        ({"features.use_hidden": True}, "heads.reads rows"),
        ({"heads.positions.attention_heads": 3}, "multiple of heads.positions.attention_heads"),
        ({"objective.actor": "soft_q"}, "expected one of policy_gradient"),
        ({"objective.advantage": "critic"}, "expected group"),
        ({"train.critic_steps": 1}, "has no critic"),
        ({"train.order": "O_OP," * 20, "train.actor_steps": 0}, "picks no operators"),
        ({"rollout.selection_mode": "argmax"}, "probability of what was picked"),
        ({"train.episodes_per_prompt": 1}, "expected 2 or more"),
        ({"heads.positions.start": 1.0}, "expected a number from 0.001 to 0.999"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(configs, changes, expected):
    overrides = [f"--config.{key}={value}" for key, value in changes.items()]
    with pytest.raises(InputError) as refusal:
        load_config(configs / "tiny_positions.py", overrides)
    message = str(refusal.value)
    assert expected in message and "\n" not in message
    assert next(iter(changes)) in message or "heads.positions.width" in message
