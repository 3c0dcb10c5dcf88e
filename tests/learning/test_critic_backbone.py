"""A critic that is a backbone: its values against a plain forward pass, what is recorded, its
weights as trained and as applied, its updates on one and several devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from support.toy_rollout import BATCH, VARIANTS, quickly_compiled, whole_batch, world
from support.toy_updates import ACTORS, MODES, SETTINGS, head_batch

from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.devices import sharding
from reoac_jax.learning.critic_backbone import applied_critic, rollout_critic
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.replay import RowTokens
from reoac_jax.learning.trainable import Full, Lora
from reoac_jax.policy.observation import FilledRows, Observation, with_prompt
from reoac_jax.policy.value import BackboneCritic

pytestmark = pytest.mark.slow
FILLED = toy.rollout_settings(**VARIANTS["critic_backbone"])
KINDS = {"full": Full(), "lora": Lora(2.0, (), 3)}
values = jax.jit(BackboneCritic.apply, static_argnums=0)
forward = jax.jit(DenoiserModule.apply, static_argnums=0)


def plain_values(model, critic, token, prompt, length):
    """Q of one row, without padding, in float64 behind the backbone."""
    line = np.concatenate([prompt[:length], token])[None].astype(np.int32)
    out = forward(model, critic["backbone"], line, np.array([line.shape[1]], np.int32))
    states = np.asarray(out.hidden[0, length:], np.float64)
    spread = states.var(axis=1, keepdims=True)
    states = (states - states.mean(axis=1, keepdims=True)) / np.sqrt(spread + 1e-6)
    pooled = np.concatenate([states.mean(axis=0), states.max(axis=0)])
    head = critic["value"]["Dense_0"]
    return pooled @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"])


def test_recorded_values_are_those_of_a_plain_forward_pass_over_the_filled_row():
    _, _, modules, params = world(FILLED)
    prompts, steps = toy.prompts(BATCH), whole_batch(FILLED).steps
    filled = steps.observation.filled
    assert filled.prompt is None and filled.prompt_length is None  # once a row, not once a step
    for t, row in zip(*np.nonzero(steps.active), strict=True):
        token, tokens = filled.token[t, row], steps.tokens[t, row]
        written = tokens != toy.MASK_ID
        np.testing.assert_array_equal(token[written], tokens[written])
        assert (token != toy.MASK_ID).all()
        if row < 3:
            prompt, length = np.asarray(prompts.tokens[row]), int(prompts.lengths[row])
            want = plain_values(modules.critic.model, params.critic, token, prompt, length)
            np.testing.assert_allclose(steps.q[t, row], want, atol=1e-4)


def test_without_the_filled_row_the_actor_is_the_same_and_nothing_is_valued():
    """As in an evaluation that does not look ahead: the critic's pass is not made."""
    model, variables, modules, params = world(FILLED)
    lean = quickly_compiled(
        model, modules, dataclasses.replace(FILLED, filled=False), variables, params,
        toy.prompts(BATCH), toy.vocabulary(),
    ).steps  # fmt: skip
    steps = whole_batch(FILLED).steps
    np.testing.assert_allclose(lean.logits, steps.logits, atol=1e-6)
    np.testing.assert_array_equal(lean.written, steps.written)
    assert lean.q is None and lean.observation.filled is None
    np.testing.assert_array_equal(steps.forward_passes - lean.forward_passes, steps.active)


@functools.cache
def learner(kind, count=1):
    model, _, modules, _ = world(FILLED)
    settings = dataclasses.replace(
        SETTINGS, trainable=MODES["full"], critic=KINDS[kind], actor=ACTORS["policy_gradient"]
    )
    return Learner(model, modules, FILLED, settings, sharding.make_mesh(jax.devices()[:count]))


def start(kind, count=1):
    """A state, and the base for the heads' steps."""
    it, params = learner(kind, count), world(FILLED)[1]["params"]
    own = jax.tree.map(jnp.copy, params)  # the state's backbone is these very arrays
    state = it.place(it.init(jax.random.key(0), own))
    base = sharding.replicate(it.mesh, jax.tree.map(jnp.copy, params))
    return state, base if it.heads_read_base else None


def batch(seed=0, rows=12):
    """Returns that the row's first token decides."""
    rng = np.random.default_rng(seed)
    prompts, token = toy.prompts(12, seed), rng.integers(2, 22, (12, 8)).astype(np.int32)
    heads = head_batch(seed)
    found = heads._replace(
        observation=Observation(alignment=heads.observation.alignment, filled=FilledRows(token)),
        returns_to_go=(token[:, 0] % 3 - 1).astype(np.float32),
        tokens=RowTokens(
            np.asarray(prompts.tokens), np.asarray(prompts.lengths), token,
            np.zeros(12, np.int32),
        ),
    )  # fmt: skip
    return jax.tree.map(lambda x: x[:rows], found)


def test_either_kind_starts_from_the_backbone_and_shares_nothing_with_it():
    states = {kind: start(kind)[0] for kind in KINDS}
    seen = batch()
    observation = with_prompt(seen.observation, seen.tokens.prompt, seen.tokens.prompt_length)
    params = world(FILLED)[1]["params"]
    found = []
    for kind, state in states.items():
        heads = rollout_critic(KINDS[kind], params, state.heads, lambda x: x)
        critic = learner(kind).heads.critic
        found.append(values(critic, {"params": heads.critic}, observation))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    own = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(states["full"].heads.critic)}
    policy = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(states["full"].backbone)}
    assert not own & policy  # both are donated


@pytest.mark.parametrize("kind", KINDS)
def test_updates_learn_and_leave_the_actor_the_policy_and_the_base_alone(kind):
    it, (state, base) = learner(kind), start(kind)
    before = jax.device_get((state.heads.actor, state.backbone, base))
    trained = jax.device_get(state.heads.critic["backbone"])
    losses = []
    for _ in range(30):
        state, metrics = it.critic_step(state, *sharding.split_padded(it.mesh, batch()), base)
        losses.append(float(metrics["critic_loss"]))
    assert losses[-1] < 0.3 * losses[0]
    after = jax.device_get((state.heads.actor, state.backbone, base))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    changed = jax.tree.map(lambda x, y: (x != y).any(), trained, state.heads.critic["backbone"])
    assert np.mean(jax.tree.leaves(changed)) > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_finite_differences(kind):
    it, (state, base) = learner(kind), start(kind)
    seen = batch()
    observation = with_prompt(seen.observation, seen.tokens.prompt, seen.tokens.prompt_length)
    critic = toy.randomise(state.heads.critic, 3, 0.05)

    @jax.jit
    def loss(critic):
        q = it.values(critic, observation, base)
        return jnp.square(q[jnp.arange(12), seen.operator] - seen.returns_to_go).mean()

    gradient = jax.jit(jax.grad(loss))(critic)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), critic)
    along = sum(
        float((g * d).sum())
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    moved = [jax.tree.map(lambda x, d, h=h: x + h * d, critic, direction) for h in (5e-4, -5e-4)]
    numeric = (float(loss(moved[0])) - float(loss(moved[1]))) / 1e-3
    assert along == pytest.approx(numeric, rel=0.02, abs=1e-3)


def test_an_overlay_merged_in_values_as_the_overlay_does():
    it, (state, base) = learner("lora"), start("lora")
    critic = toy.randomise(state.heads.critic, 5, 0.1)
    seen = batch()
    observation = with_prompt(seen.observation, seen.tokens.prompt, seen.tokens.prompt_length)
    split = applied_critic(KINDS["lora"], base, critic)
    heads = rollout_critic(KINDS["lora"], base, state.heads._replace(critic=critic), lambda x: x)
    want, got = (
        values(it.heads.critic, {"params": params}, observation) for params in (split, heads.critic)
    )
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert np.abs(np.asarray(want)).max() > 0.01


@functools.cache
def updated(kind, count):
    """Losses and critic after a few updates with 10 rows: on four devices the last has one."""
    it, (state, base) = learner(kind, count), start(kind, count)
    losses = []
    for seed in range(3):
        placed = sharding.split_padded(it.mesh, batch(seed, 10))
        state, critic = it.critic_step(state, *placed, base)
        state, actor = it.actor_step(state, *placed, base)
        losses.append(jax.device_get(critic | actor))
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves(state.heads))
    return losses, jax.device_get(state.heads)


@pytest.mark.parametrize("kind", KINDS)
def test_updates_do_not_depend_on_the_number_of_devices(kind):
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    (losses, heads), (wanted_losses, wanted) = updated(kind, 4), updated(kind, 1)
    for mine, theirs in zip(losses, wanted_losses, strict=True):
        for name, value in theirs.items():
            np.testing.assert_allclose(mine[name], value, atol=1e-4, err_msg=name)
    # AdamW divides by the gradient's size: where that is near 0, rounding decides the sign.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=5e-3), heads, wanted)
