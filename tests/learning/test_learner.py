"""The three updates: what moves and what does not, losses that fall, padding without weight."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from support.toy_updates import (
    ACTORS,
    MODES,
    SETTINGS,
    N,
    backbone_batch,
    head_batch,
    initial,
    real,
)

from reoac_jax.backbone import lora
from reoac_jax.config import load_config
from reoac_jax.devices import sharding
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.objectives.soft_q import SoftQ
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.learning.trainable import Lora
from reoac_jax.rollout import sigma_of
from reoac_jax.system.errors import InputError

pytestmark = pytest.mark.slow


@functools.cache
def learner(time_conditioning=False, **changes):
    rollout = toy.rollout_settings(time_conditioned=time_conditioning)
    model, _ = toy.backbone(1, blocks=1, time_conditioning=time_conditioning, dropout=0.1)
    modules, _ = toy.heads(rollout)
    settings = dataclasses.replace(SETTINGS, **changes)
    return Learner(model, modules, rollout, settings, sharding.make_mesh(jax.devices()[:1]))


def base(time_conditioning=False):
    """Fresh arrays: mode `full` donates them."""
    _, params = toy.backbone(1, blocks=1, time_conditioning=time_conditioning)
    return jax.tree.map(jnp.copy, params)


def host(tree):
    return jax.tree.map(np.array, tree)


def assert_equal(got, want):
    jax.tree.map(np.testing.assert_array_equal, got, want)


def moved(before, after):
    """Whether each leaf changed."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return [bool((np.asarray(x) != np.asarray(y)).any()) for x, y in pairs]


OWN = 7  # rows of a minibatch that is filled up


def with_padding(batch, other):
    """The same rows that count, followed by the rows of another batch."""
    rows = np.arange(N) < OWN

    def mix(x, y):
        return np.where(rows.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    return jax.tree.map(mix, batch, other)


def test_lora_steps_leave_the_base_alone():
    it, params = learner(), base()
    before = host(params)
    state = initial(it, params)
    overlay, heads = host(state.backbone), host(state.heads)
    for seed in range(3):
        key = jax.random.key(seed)
        state, _ = it.backbone_step(state, params, None, backbone_batch(seed), real(), key)
    assert_equal(params, before)  # bit for bit, and not donated
    assert all(moved(overlay, state.backbone))
    assert not any(moved(heads, state.heads))
    rollout_params = it.rollout_params(params, state.backbone)
    assert sum(moved(params, rollout_params)) == len(overlay)
    assert_equal(rollout_params, lora.merge(params, state.backbone, SETTINGS.trainable.scale))


def test_full_steps_change_the_weights():
    it, params = learner(trainable=MODES["full"]), base()
    before = host(params)
    state = initial(it, params)
    state, _ = it.backbone_step(state, None, None, backbone_batch(), real(), jax.random.key(0))
    still = [
        path
        for (path, x), changed in zip(
            jax.tree.leaves_with_path(before), moved(before, state.backbone), strict=True
        )
        if not changed and x.any()
    ]
    assert not still
    assert it.rollout_params(None, state.backbone) is state.backbone


def test_frozen_leaves_the_backbone_alone():
    it, params = learner(trainable=MODES["frozen"]), base()
    before = host(params)
    state = initial(it, params)
    heads = host(state.heads)
    assert state.backbone == {}
    state, _ = it.critic_step(state, head_batch(), real())
    state, _ = it.actor_step(state, head_batch(), real())
    assert any(moved(heads.actor, state.heads.actor))
    assert any(moved(heads.critic, state.heads.critic))
    assert it.rollout_params(params, state.backbone) is params
    assert_equal(params, before)


def test_each_head_moves_in_its_own_step_only():
    it = learner()
    state = initial(it, base())
    before = host(state)
    state, _ = it.critic_step(state, head_batch(), real())
    after_critic = host(state)
    state, _ = it.actor_step(state, head_batch(), real())
    after = host(state)
    assert any(moved(before.heads.critic, after_critic.heads.critic))
    assert_equal(after_critic.heads.actor, before.heads.actor)
    assert_equal(after_critic.optimizers.actor, before.optimizers.actor)
    assert any(moved(before.heads.actor, after.heads.actor))
    assert_equal(after.heads.critic, after_critic.heads.critic)
    assert_equal(after.backbone, before.backbone)


def test_the_critic_learns_the_returns():
    it, batch = learner(), head_batch()
    state, losses = initial(it, base()), []
    for _ in range(150):
        state, metrics = it.critic_step(state, batch, real())
        losses.append(float(metrics["critic_loss"]))
    assert losses[-1] < 0.05 * losses[0]
    q = it.heads.apply(state.heads, batch.observation).q
    taken = np.asarray(q)[np.arange(N), batch.operator]
    assert np.mean((taken - batch.returns_to_go) ** 2) < 0.05 * losses[0]


def test_the_soft_q_actor_follows_the_critic():
    """Its loss falls to the target's own entropy, where policy and softmax(Q / T) agree."""
    it, batch = learner(), head_batch()
    state, losses = initial(it, base()), []
    for _ in range(60):
        state, _ = it.critic_step(state, batch, real())
    for _ in range(250):
        state, metrics = it.actor_step(state, batch, real())
        losses.append(float(metrics["actor_loss"]))
    assert losses[-1] < losses[0]
    out = it.heads.apply(state.heads, batch.observation)
    policy, target = (np.asarray(jax.nn.softmax(x)) for x in (out.logits, out.q / 0.5))
    assert np.abs(target - 0.2).max() > 0.3
    assert np.abs(policy - target).mean() < 0.03


def test_the_policy_gradient_actor_prefers_what_paid():
    it, batch = learner(actor=ACTORS["policy_gradient"]), head_batch()
    state = initial(it, base())

    def log_prob(heads):
        logits = it.heads.apply(heads, batch.observation).logits
        return np.asarray(jax.nn.log_softmax(logits))[np.arange(N), batch.chosen]

    old = log_prob(state.heads)
    batch = batch._replace(log_prob=old)
    losses = []
    for _ in range(15):
        state, metrics = it.actor_step(state, batch, real())
        losses.append(float(metrics["actor_loss"]))
    assert losses[-1] < losses[0]
    decided = batch.decided
    gain = (log_prob(state.heads) - old) * np.sign(batch.advantage)
    assert gain[decided].mean() > 0.05
    assert metrics["actor_entropy"] > 0


def test_the_policy_gradient_leaves_out_what_the_actor_did_not_decide():
    it, batch = learner(actor=ACTORS["policy_gradient"]), head_batch()
    other = head_batch(1)
    undecided = ~batch.decided
    assert 0 < undecided.sum() < N
    changed = batch._replace(
        advantage=np.where(undecided, other.advantage, batch.advantage),
        chosen=np.where(undecided, other.chosen, batch.chosen),
    )
    steps = [it.actor_step(initial(it, base()), x, real()) for x in (batch, changed)]
    assert_equal(*(host((state.heads.actor, metrics)) for state, metrics in steps))


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_backbone_steps_lower_the_loss(mode):
    """On one batch, with dropout on: the mean of the last losses is well under the first ones."""
    time_conditioning = mode == "full"
    it = learner(time_conditioning, trainable=MODES[mode])
    params = base(time_conditioning)
    state, losses = initial(it, params), []
    frozen = params if mode == "lora" else None
    batch = backbone_batch()
    for seed in range(40):
        state, metrics = it.backbone_step(state, frozen, None, batch, real(), jax.random.key(seed))
        losses.append(float(metrics["backbone_loss"]))
    assert 0 < np.mean(losses[-5:]) < 0.7 * np.mean(losses[:2])


@pytest.mark.parametrize("sigma", ["masked_share", "schedule"])
def test_sigma_of_the_recorded_state_reaches_a_time_conditioned_backbone(sigma):
    """Of its masked share, as the rollout told it; of the step where a schedule is asked for."""
    it, params = learner(True), base(True)
    it = dataclasses.replace(it, rollout=dataclasses.replace(it.rollout, sigma=sigma))
    losses = []
    for step in (0, 5):
        batch = backbone_batch()._replace(step=np.full(N, step, np.int32))
        _, metrics = it.backbone_step(
            initial(it, params), params, None, batch, real(), jax.random.key(0)
        )
        losses.append(float(metrics["backbone_loss"]))
    assert (abs(losses[0] - losses[1]) > 1e-4) == (sigma == "schedule")
    batch = backbone_batch()
    state = initial(it, params)

    class Told(Exception):
        """What sigma is; the rest of the step, outside of a program, would take half a minute."""

    def spy(tokens, step, settings):
        raise Told(np.asarray(sigma_of(tokens, step, settings)))

    with pytest.MonkeyPatch.context() as patch, jax.disable_jit(), pytest.raises(Told) as told:
        patch.setattr("reoac_jax.learning.learner.sigma_of", spy)
        it.backbone_step(state, params, None, batch, real(), jax.random.key(0))
    share = (batch.tokens == toy.MASK_ID).mean(axis=1)
    if sigma == "masked_share":
        np.testing.assert_allclose(told.value.args[0], -np.log1p(-0.999 * share), rtol=1e-5)


@pytest.mark.parametrize("objective", ["soft_q", "policy_gradient"])
def test_what_may_not_be_chosen_counts_for_nothing(objective):
    """Not its Q, nor its logit: an actor's step with three legal operators is the step of a world
    that has only these."""
    it, batch = learner(actor=ACTORS[objective], weight_decay=0.0), head_batch()
    legal = np.tile(np.array([True, False, True, True, False]), (N, 1))
    chosen = np.array([0, 2, 3], np.int32)[batch.chosen % 3]
    batch = batch._replace(legal=legal, chosen=chosen)
    state = initial(it, base())
    # The last layer's outputs of the operators that are out of the choice.
    last = f"Dense_{len(it.heads.actor.hidden)}"

    def pushed(params, by):
        layer = params[last]
        bias = layer["bias"].at[np.array([1, 4])].add(by)
        return params | {last: layer | {"bias": bias}}

    results = []
    for by in (0.0, 30.0):
        heads = state.heads._replace(
            actor=pushed(state.heads.actor, by), critic=pushed(state.heads.critic, by)
        )
        one = jax.tree.map(jnp.copy, state._replace(heads=heads))
        after, metrics = it.actor_step(one, batch, real())
        results.append((pushed(after.heads.actor, -by), metrics))
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), *results)
    every = batch._replace(legal=np.ones((N, 5), bool))
    full, _ = it.actor_step(jax.tree.map(jnp.copy, state), every, real())
    assert any(moved(results[0][0], full.heads.actor))
    assert 0 < results[0][1]["actor_entropy"] <= np.log(3) + 1e-6


@pytest.mark.parametrize("objective", ["soft_q", "policy_gradient"])
def test_padding_of_head_batches_weighs_nothing(objective):
    it = learner(actor=ACTORS[objective])
    batch = head_batch()
    results = []
    for other in (1, 2):
        padded = with_padding(batch, head_batch(other))
        state, critic = it.critic_step(initial(it, base()), padded, real(OWN))
        state, actor = it.actor_step(state, padded, real(OWN))
        results.append(host((state, critic["critic_loss"], actor)))
    assert_equal(*results)
    # And what counts does: the comparison is not one of two steps that do nothing.
    state, _ = it.critic_step(initial(it, base()), head_batch(), real(OWN + 1))
    assert any(moved(results[0][0].heads.critic, state.heads.critic))


def test_padding_of_backbone_batches_weighs_nothing():
    it, params = learner(), base()
    batch = backbone_batch()
    results = []
    for other in (1, 2):
        padded = with_padding(batch, backbone_batch(other))
        step = it.backbone_step(
            initial(it, params), params, None, padded, real(OWN), jax.random.key(0)
        )
        results.append(host((step[0].backbone, step[1])))
    assert_equal(*results)
    step = it.backbone_step(
        initial(it, params), params, None, backbone_batch(), real(), jax.random.key(0)
    )
    assert any(moved(results[0][0], step[0].backbone))


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_norms_and_biases_do_not_decay(mode):
    """Where the gradient is 0, only matrices move."""
    settings = dataclasses.replace(SETTINGS, weight_decay=0.5)
    optimizer = settings.optimizer(0.1)
    it, params = learner(trainable=MODES[mode]), base()
    state = initial(it, params)
    for weights in (state.heads.actor, state.heads.critic, state.backbone):
        still = jax.tree.map(jnp.zeros_like, weights)
        updates, _ = jax.jit(lambda zeros, own: optimizer.update(zeros, optimizer.init(own), own))(
            still, weights
        )
        for change, x in zip(jax.tree.leaves(updates), jax.tree.leaves(weights), strict=True):
            wanted = -0.1 * 0.5 * x if x.ndim > 1 else jnp.zeros_like(x)
            np.testing.assert_allclose(change, wanted, atol=1e-7)
    if mode == "full":
        assert {x.ndim for x in jax.tree.leaves(state.backbone)} == {1, 2}


def test_steps_donate_the_state():
    it, params = learner(), base()
    state = initial(it, params)
    after, _ = it.backbone_step(state, params, None, backbone_batch(), real(), jax.random.key(0))
    assert all(x.is_deleted() for x in jax.tree.leaves(state.backbone))
    assert not any(x.is_deleted() for x in jax.tree.leaves((after, params)))


@pytest.mark.parametrize("whose", ["actor", "backbone"])
def test_a_rate_falls_in_a_line_to_its_share_at_the_last_step(whose):
    plain = dataclasses.replace(SETTINGS, weight_decay=0.0, gradient_clip=0.0)
    falling = dataclasses.replace(plain, **{f"{whose}_final_rate": 0.5, f"{whose}_steps": 5})
    weights, gradient = jnp.zeros(3), jnp.ones(3)

    def steps(settings, count):
        optimizer = getattr(settings, f"{whose}_optimizer")
        state = optimizer.init(weights)
        for _ in range(count):
            step, state = optimizer.update(gradient, state, weights)
            yield float(-step[0])

    # Of a constant gradient Adam's step is the rate.
    np.testing.assert_allclose(list(steps(plain, 3)), [0.01] * 3, rtol=1e-4)
    expected = [0.01, 0.00875, 0.0075, 0.00625, 0.005, 0.005]
    np.testing.assert_allclose(list(steps(falling, 6)), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "overlay, message",
    [
        (Lora(2.0, ("attn_nothing",), 3), "lora.targets.*matches no kernel"),
        (Lora(2.0, ("attn_(",), 3), "no regular expression"),
        (Lora(2.0, (), 64), "lora.rank is 64"),
    ],
)
def test_init_refuses(overlay, message):
    with pytest.raises(InputError, match=message):
        learner(trainable=overlay).init(jax.random.key(0), base())


def test_settings_from_the_configuration(configs):
    overrides = ["--config.lora.rank=4", "--config.lora.alpha=2", "--config.lora.targets=mlp_in"]
    overrides += ["--config.optimizer.critic_rate=0.5", "--config.objective.actor=soft_q"]
    overrides += ["--config.optimizer.backbone_final_rate=0.1", "--config.train.iterations=30"]
    overrides += ["--config.optimizer.actor_final_rate=0.2"]
    settings = LearnerSettings.from_config(load_config(configs / "gsm8k_original.py", overrides))
    assert settings.trainable == Lora(0.5, ("mlp_in",), 4) and settings.actor == SoftQ()
    assert (settings.actor_rate, settings.critic_rate, settings.backbone_rate) == (1e-4, 0.5, 5e-6)
    assert (settings.backbone_final_rate, settings.backbone_steps) == (0.1, 30)
    assert (settings.actor_final_rate, settings.actor_steps) == (0.2, 30)
    hash(settings)


@pytest.mark.slow
def test_microbatches_and_remat_change_nothing_but_memory():
    plain = learner(backbone_accumulate=1)
    still = plain.model.clone(dropout=0.0)  # microbatches draw masks of their own
    plain = dataclasses.replace(plain, model=still)
    state, metrics = plain.backbone_step(
        initial(plain, base()), base(), None, backbone_batch(), real(), jax.random.key(0)
    )
    for changes, remat in (({"backbone_accumulate": 3}, False), ({}, True)):
        it = learner(**changes)
        it = dataclasses.replace(it, model=still.clone(remat=remat))
        other, measured = it.backbone_step(
            initial(it, base()), base(), None, backbone_batch(), real(), jax.random.key(0)
        )
        np.testing.assert_allclose(measured["backbone_loss"], metrics["backbone_loss"], rtol=1e-5)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
            host(other.backbone),
            host(state.backbone),
        )


KERNELS = ((16, 48), (16, 16), (16, 64), (64, 16))  # of the toy backbone's blocks
MOVES = {"parameter", "copy", "transpose", "bitcast", "get-tuple-element", "fusion", "call"}


def computed_in_a_kernels_shape(mode):
    """Operations of the compiled update that compute something as large as a block's matrix."""
    it = learner(trainable=MODES[mode])
    params = base()
    state = initial(it, params)
    arguments = (
        state,
        params if mode == "lora" else None,
        None,
        backbone_batch(),
        real(),
        jax.random.key(0),
    )
    text = it.backbone_step.lower(it, *arguments).compile().as_text()
    found = re.findall(r"= f32\[(\d+),(\d+)\]\S* ([\w-]+)\(", text)
    shapes = {*KERNELS, *(shape[::-1] for shape in KERNELS)} - {(16, 16)}
    return {name for rows, columns, name in found if (int(rows), int(columns)) in shapes} - MOVES


def test_lora_computes_no_full_size_gradient():
    assert not computed_in_a_kernels_shape("lora")
    assert computed_in_a_kernels_shape("full") >= {"dot"}
