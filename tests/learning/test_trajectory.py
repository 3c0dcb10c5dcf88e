"""The policy gradient over the denoising trajectory: its gradient, its ratio, its expectation."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy, toy_rollout
from support.toy_updates import MODES, SETTINGS, backbone_batch, initial, real

from reoac_jax.backbone import lora
from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.backbone.interface import ModelSpec, Prepared
from reoac_jax.backbone.likelihood import Rows, TokenStatistics, token_statistics
from reoac_jax.backbone.prediction import assemble_rows
from reoac_jax.devices import sharding
from reoac_jax.learning.advantages import GradedEpisodes, GroupRelative
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.objectives.trajectory import Trajectory
from reoac_jax.learning.replay import BackboneBatch, Episodes, Replay
from reoac_jax.rollout import sigma_of

torch = pytest.importorskip("torch")
N, G, V, MASK = 6, 4, 7, 6
A_STEP = 1.5
CLIP, KL, ENTROPY, TEMPERATURE = 0.2, 0.3, 0.05, 0.7


class TableModel:
    """A model whose logits at each position are its parameters, float32 `[B, G, V]`."""

    spec = ModelSpec(V, MASK, V, V, 1, 64)

    def prepare(self, variables, sigma=None, *, dropout_key=None):
        return Prepared()

    def hidden(self, variables, rows, lengths, prepared, *, dropout_key=None, cache=None):
        return variables["params"]

    def generated(self, hidden, first, count):
        return hidden

    def logits(self, variables, hidden, prepared, *, dropout_key=None):
        return hidden


def minibatch(rng):
    """Ratios on both sides of the clip, advantages of both signs, targets that are the mask."""
    target = rng.integers(0, MASK, (N, G)).astype(np.int32)
    written = rng.random((N, G)) < 0.6
    written[0], written[1] = True, False
    target = np.where(written, target, MASK)
    none = np.zeros(N, np.int32)
    return BackboneBatch(
        prompt=none[:, None], prompt_length=none, tokens=target,
        position=np.argsort(rng.random((N, G)), axis=1).astype(np.int32), written=written,
        target=target, log_prob=np.log(rng.uniform(0.05, 0.4, (N, G))).astype(np.float32),
        advantage=rng.standard_normal(N).astype(np.float32), step=none,
    )  # fmt: skip


OBJECTIVE = Trajectory(clip_ratio=CLIP, kl_weight=KL, entropy_weight=ENTROPY)
COUNTED = np.array([1, 1, 1, 1, 1, 0], np.float32)  # the last row is padding


def loss_of(logits, start, batch):
    """The loss as the learner makes it."""
    lengths = jnp.full(N, G, jnp.int32)
    rows = Rows(batch.tokens, lengths, batch.target, G, batch.position)
    before = {"params": start}
    tokens = token_statistics(TableModel(), {"params": logits}, rows, TEMPERATURE, before)
    share = OBJECTIVE.shares(jnp.asarray(batch.written), COUNTED, A_STEP)
    return OBJECTIVE.loss(tokens, batch, share)


def torch_loss(logits, start, batch):
    """The definition, from raw logits and one token at a time."""
    total = torch.zeros((), dtype=torch.float64)
    for row in range(N):
        for column in range(G):
            if not (batch.written[row, column] and COUNTED[row]):
                continue
            place = batch.position[row, column]
            log_probs = torch.log_softmax(logits[row, place, :MASK] / TEMPERATURE, dim=0)
            old = torch.log_softmax(start[row, place, :MASK] / TEMPERATURE, dim=0)
            ratio = (log_probs[batch.target[row, column]] - batch.log_prob[row, column]).exp()
            advantage = float(batch.advantage[row])
            surrogate = torch.minimum(
                ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage
            )
            divergence = torch.nn.functional.kl_div(
                old, log_probs, reduction="sum", log_target=True
            )
            spread = torch.distributions.Categorical(logits=log_probs).entropy()
            total = total - surrogate + KL * divergence - ENTROPY * spread
    return total / (COUNTED.sum() * A_STEP)


@pytest.mark.parity
def test_gradient_against_pytorch_and_finite_differences():
    rng = np.random.default_rng(0)
    batch = minibatch(rng)
    logits, start = (rng.standard_normal((N, G, V)).astype(np.float32) for _ in range(2))
    value_of = jax.jit(lambda x: loss_of(x, start, batch).value)
    value, gradient = jax.value_and_grad(value_of)(logits)

    there = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    wanted = torch_loss(there, torch.tensor(start, dtype=torch.float64), batch)
    wanted.backward()
    np.testing.assert_allclose(value, wanted.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, there.grad.numpy(), atol=1e-6)
    assert np.abs(there.grad.numpy()).max() > 0.05
    metrics = loss_of(logits, start, batch).metrics
    assert 0 < np.asarray(metrics["backbone_clip_fraction"])[batch.written].mean() < 1

    for seed in range(5):
        direction = np.random.default_rng(seed).standard_normal(logits.shape).astype(np.float32)
        ahead, behind = (float(value_of(logits + sign * 1e-3 * direction)) for sign in (1, -1))
        slope = float((np.asarray(gradient) * direction).sum())
        assert (ahead - behind) / 2e-3 == pytest.approx(slope, abs=5e-3)


def test_a_row_is_not_divided_by_its_own_count():
    """One token more adds its own term and leaves the others as they were."""
    few, more = (jnp.array([[True, second], [True, True]]) for second in (False, True))
    shares = [np.asarray(Trajectory().shares(x, jnp.ones(2), A_STEP)) for x in (few, more)]
    np.testing.assert_array_equal(shares[0][np.asarray(few)], shares[1][np.asarray(few)])
    assert shares[1][0, 1] == shares[1][0, 0] == pytest.approx(1 / (2 * A_STEP))


# ---- The ratio at the first minibatch


def episodes_of(steps, final, prompts):
    """Replay's fields of a rollout `[T, N, ...]`; what the backbone's updates do not read is 0."""
    steps = jax.tree.map(lambda x: np.swapaxes(np.asarray(x), 0, 1), steps)
    zeros = np.zeros(steps.active.shape, np.float32)
    fields = dict.fromkeys(Episodes._fields, zeros) | dict(
        prompt=np.asarray(prompts.tokens), prompt_length=np.asarray(prompts.lengths),
        final=np.asarray(final), active=steps.active, tokens=steps.tokens, written=steps.written,
        token_log_prob=steps.log_prob, observation=steps.observation,
    )  # fmt: skip
    return Episodes(**fields)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "overlay"),
    [
        ({}, False), ({}, True), ({"update_rule": "overwrite"}, False),
        (
            {"time_conditioned": True, "repair_tokens": 2, "repair_threshold": 0.6, "max_steps": 9},
            True,
        ),
    ],
    ids=["full", "lora", "overwrite-full", "time-repair-lora"],
)  # fmt: skip
def test_the_ratio_is_one_before_the_first_step(changes, overlay):
    """In float32, of everything that was written, with LoRA merged there and in its layers here."""
    draw = DrawSettings("sample", TEMPERATURE, drawn=True)
    settings = toy.rollout_settings(draw=draw, **changes)
    model, variables, modules, heads = toy_rollout.world(settings)
    base, trained = variables["params"], {}
    if overlay:
        trained = toy.randomise(
            jax.jit(lora.init, static_argnums=(2, 3))(
                jax.random.key(0), base, ("attn", "mlp_in"), 3
            ),
            5,
        )
        variables = {"params": lora.merge(base, trained, 2.0)}
    prompts = toy.prompts(8)
    rollout = jax.device_get(
        toy_rollout.compiled(model, modules, settings, variables, heads, prompts, toy.vocabulary())
    )
    replay = Replay(8)
    replay.add(episodes_of(rollout.steps, rollout.tokens, prompts))
    rng, count = np.random.default_rng(0), int(rollout.steps.active.sum())
    (batch,) = replay.backbone_batches(rng, count, 1, Trajectory().target, latest=8)
    tokens, lengths = assemble_rows(batch.prompt, batch.prompt_length, batch.tokens, toy.EOS_ID)
    collections = {"params": base, "lora": lora.collection(trained, 2.0)} if overlay else variables

    @jax.jit
    def statistics():
        sigma = sigma_of(batch.tokens, batch.step, settings)
        rows = Rows(tokens, lengths, batch.target, settings.gen_len, batch.position, None, sigma)
        return token_statistics(model, collections, rows, TEMPERATURE)

    ratio = np.exp(np.asarray(statistics().log_prob) - batch.log_prob)
    assert batch.written.sum() > 30
    assert np.abs(ratio[batch.written] - 1).max() < 1e-5
    # The comparison is with what was drawn, not with anything near 1.
    assert batch.log_prob[batch.written].min() < -0.5


# ---- Two tokens, all trajectories


REWARDS = {(0, 0): 0.2, (0, 1): 0.9, (1, 0): 0.5, (1, 1): 0.0}  # of the two tokens


def two_token_log_probs(table):
    """log p(first), log p(second | first), from `[3, 2]` logits."""
    first = jax.nn.log_softmax(table[0])
    second = jax.nn.log_softmax(table[1:], axis=-1)
    return first, second


def expected_reward(table):
    first, second = two_token_log_probs(table)
    return sum(jnp.exp(first[a] + second[a, b]) * reward for (a, b), reward in REWARDS.items())


def expected_loss(table, old, objective):
    """The mean of the objective's loss over all trajectories, as often as `old` draws them."""
    first, second = two_token_log_probs(table)
    first_old, second_old = two_token_log_probs(old)
    value = expected_reward(old)
    total = 0.0
    for a, b in itertools.product(range(2), repeat=2):
        weight = jnp.exp(first_old[a] + second_old[a, b])
        # Two states of one written token each.
        batch = BackboneBatch(
            **dict.fromkeys(BackboneBatch._fields)
            | dict(
                log_prob=jnp.array([[first_old[a]], [second_old[a, b]]]),
                advantage=jnp.full(2, REWARDS[a, b] - value),
            )
        )
        log_prob = jnp.array([[first[a]], [second[a, b]]])
        share = objective.shares(jnp.ones((2, 1), bool), jnp.ones(2), 1.0)
        zero = jnp.zeros((2, 1))
        loss = objective.loss(TokenStatistics(log_prob, zero, zero), batch, share).value
        total += jax.lax.stop_gradient(weight) * loss
    return total


@pytest.mark.slow
def test_unbiased_on_two_tokens_and_finds_the_known_optimum():
    objective = Trajectory(clip_ratio=0.2)

    @jax.jit
    @jax.grad
    def gradient_of(table):
        return expected_loss(table, jax.lax.stop_gradient(table), objective)

    truth_of = jax.jit(jax.grad(expected_reward))
    table = jnp.array(np.random.default_rng(0).standard_normal((3, 2)), jnp.float32)
    # Two states a trajectory: the mean over states is half the sum over steps.
    np.testing.assert_allclose(-2 * gradient_of(table), truth_of(table), atol=1e-6)
    for _ in range(400):
        table = table - 10.0 * gradient_of(table)
    assert expected_reward(table) == pytest.approx(max(REWARDS.values()), abs=0.02)


# ---- In the learner


@functools.cache
def learner(mode, **changes):
    rollout = toy.rollout_settings(draw=DrawSettings("sample", TEMPERATURE))
    model, _ = toy.backbone(1, dropout=0.5, lora_dropout=0.5)
    modules, _ = toy.heads(rollout)
    settings = dataclasses.replace(
        SETTINGS, trainable=MODES[mode], backbone=Trajectory(**changes), weight_decay=0.0
    )
    return Learner(model, modules, rollout, settings, sharding.make_mesh(jax.devices()[:1]))


def stepped(it, mode, seed=0, count=1):
    _, params = toy.backbone(1)
    params = jax.tree.map(jnp.copy, params)
    state, start = initial(it, params), jax.tree.map(jnp.copy, params)
    base = params if it.settings.trainable.keeps_base else None
    history = []
    for number in range(count):
        key = jax.random.key(seed + number)
        state, metrics = it.backbone_step(
            state, base, start if it.settings.backbone.measures_start else None,
            backbone_batch(), real(), key,
        )  # fmt: skip
        history.append(jax.device_get(metrics))
    return jax.device_get(state.backbone), history


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lora", "full"])
def test_no_dropout_and_the_distance_from_the_start(mode):
    it = learner(mode, kl_weight=0.1)
    weights, history = stepped(it, mode, count=3)
    same, again = stepped(it, mode, seed=9, count=3)
    jax.tree.map(np.testing.assert_array_equal, weights, same)  # whatever the key of dropout
    assert history == again
    kl = [metrics["backbone_kl"] for metrics in history]
    assert abs(kl[0]) < 1e-6 and min(kl[1:]) > 1e-3
    for metrics in history:
        assert 0 < metrics["backbone_confidence"] < 1 < metrics["backbone_entropy"]
        assert 0 < metrics["backbone_clip_fraction"] < 1 and metrics["backbone_update_kl"] > 0


@pytest.mark.slow
def test_the_kl_holds_the_weights():
    moved = []
    for weight in (0.1, 30.0):
        _, history = stepped(learner("full", kl_weight=weight), "full", count=6)
        moved.append(history[-1]["backbone_kl"])
    assert moved[1] < 0.5 * moved[0]


def test_the_objective_takes_the_advantages_it_is_given():
    rewards, groups = np.array([1, 0, 1, 1], np.float32), np.array([0, 0, 1, 1], np.int32)
    zeros = np.zeros((4, 3), np.float32)
    episodes = GradedEpisodes(rewards, zeros, groups, zeros, zeros == 0)
    estimate = GroupRelative(0.1)
    got = Trajectory().advantages(episodes, estimate)
    np.testing.assert_array_equal(got, estimate(episodes))
    assert (got[0] > 0).all() and (got[1] < 0).all() and not got[2:].any()
