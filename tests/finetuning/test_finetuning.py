"""The fine-tuning objective: against PyTorch, against exact expectations, and its noise."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.toy import EOS_ID, MASK_ID, VOCAB_SIZE, WORDS, backbone, randomise, tokenizer

from reoac_jax.backbone import lora
from reoac_jax.backbone.likelihood import reference_log_probs
from reoac_jax.backbone.noise import noise_level
from reoac_jax.config import load_config
from reoac_jax.devices import sharding
from reoac_jax.finetuning.examples import Examples
from reoac_jax.finetuning.nelbo import NelboProgram, row_times, text_blocks
from reoac_jax.finetuning.objective import (
    Answers,
    add_noise,
    antithetic_times,
    denoising_nats,
    own_lengths,
    token_weights,
)
from reoac_jax.finetuning.step import Finetuner, FinetuneSettings, FinetuneState, zero_sums
from reoac_jax.learning.trainable import Full, Lora
from reoac_jax.system.errors import InputError


def answers(batch: int, seed: int = 0, width: int = 5, gen_len: int = 6, short: bool = False):
    """Random answers of 1 to G tokens and eos after them; `short` cuts every other row."""
    rng = np.random.default_rng(seed)
    prompt_length = rng.integers(1, width + 1, batch).astype(np.int32)
    prompt = rng.integers(2, len(WORDS), (batch, width)).astype(np.int32)
    prompt *= np.arange(width) < prompt_length[:, None]
    answer = rng.integers(2, len(WORDS), (batch, gen_len)).astype(np.int32)
    answer[np.arange(gen_len) >= rng.integers(1, gen_len + 1, batch)[:, None]] = EOS_ID
    own = np.asarray(own_lengths(answer, EOS_ID))
    cut = short & (np.arange(batch) % 2 == 0)
    kept = np.where(cut, own, gen_len).astype(np.int32)
    return Answers(prompt, prompt_length, answer, kept)


# ---- Noise


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), batch=st.sampled_from([1, 7, 192]))
def test_times_cover_the_unit_interval_evenly(seed, batch):
    t = np.asarray(antithetic_times(jax.random.key(seed), batch), np.float64)
    assert (t >= 1e-3 - 1e-9).all() and (t <= 1).all()  # the published floor
    edges = 1e-3 + (1 - 1e-3) * np.arange(batch + 1) / batch
    assert (t >= edges[:-1] - 1e-6).all() and (t <= edges[1:] + 1e-6).all()


def test_times_of_a_row_are_stratified_and_those_of_all_rows_even():
    t = row_times(1000, 4, seed=3)
    assert (np.floor(t * 4 - 1e-7) == np.arange(4)).all() and t.max() <= 1 and t.min() > 0
    counts, _ = np.histogram(t, bins=100, range=(0, 1))
    assert counts.min() >= 38 and counts.max() <= 42


def test_mask_probability_is_t_and_only_present_answer_tokens_are_masked():
    given = answers(200, short=True)
    t = np.linspace(0.05, 1.0, 200, dtype=np.float32)

    @jax.jit
    @jax.vmap
    def masks(seed):
        uniforms = jax.random.uniform(jax.random.key(seed), given.answer.shape)
        return add_noise(given, t, uniforms, MASK_ID, EOS_ID).masked

    masked = np.asarray(masks(np.arange(200)))
    present = np.arange(6) < given.kept[:, None]
    assert not masked[:, ~present].any()
    share = (masked & present).sum(axis=(0, 2)) / (200 * present.sum(axis=1))
    assert np.abs(share - t).max() < 5 * 0.5 / np.sqrt(200)
    assert masked[:, t == 1.0][:, :, 0].all()


def test_rows_are_prompt_then_noised_answer_and_prompts_are_never_masked():
    given = answers(40, short=True)
    uniforms = np.random.default_rng(1).random(given.answer.shape, np.float32)
    noised = add_noise(given, np.full(40, 0.6, np.float32), uniforms, MASK_ID, EOS_ID)
    for row in range(40):
        p, kept = given.prompt_length[row], given.kept[row]
        masked = (uniforms[row] < np.float32(0.6))[:kept]
        expected = np.where(masked, MASK_ID, given.answer[row, :kept])
        assert noised.lengths[row] == p + kept
        np.testing.assert_array_equal(noised.rows[row, :p], given.prompt[row, :p])
        np.testing.assert_array_equal(noised.rows[row, p : p + kept], expected)


def test_token_weights_by_hand():
    answer = np.array([[5, 6, EOS_ID, EOS_ID], [5, EOS_ID, EOS_ID, EOS_ID], [5, 6, 7, 8]])
    given = Answers(None, None, answer, np.array([4, 2, 4]))
    np.testing.assert_allclose(
        token_weights(given, EOS_ID, 0.25), [[1, 1, 1, 0.25], [1, 1, 0, 0], [1, 1, 1, 1]]
    )
    np.testing.assert_array_equal(own_lengths(answer, EOS_ID), [3, 2, 4])


# ---- Loss


@pytest.mark.parity
def test_nats_against_pytorch():
    given = answers(8, seed=4)
    rng = np.random.default_rng(5)
    logits = rng.standard_normal((8, 6, VOCAB_SIZE)).astype(np.float32)
    t = rng.uniform(0.2, 1, 8).astype(np.float32)
    masked = rng.random((8, 6)) < t[:, None]
    weight = rng.random((8, 6)).astype(np.float32)

    subs = torch.from_numpy(logits).clone()
    subs[..., MASK_ID] = -torch.inf
    each = torch.nn.functional.cross_entropy(
        subs.transpose(1, 2), torch.from_numpy(given.answer).long(), reduction="none"
    )
    expected = (each * torch.from_numpy(masked * weight / t[:, None])).sum(dim=1)

    log_probs = jax.nn.log_softmax(jnp.asarray(logits).at[..., MASK_ID].set(-jnp.inf))
    log_probs = jnp.take_along_axis(log_probs, given.answer[..., None], axis=-1)[..., 0]
    nats = denoising_nats(log_probs, masked, t, weight)
    np.testing.assert_allclose(nats, expected.numpy(), rtol=1e-5)


@pytest.mark.slow
def test_short_rows_are_scored_as_if_the_padding_did_not_exist():
    model, params = backbone(seed=2, blocks=1)
    given = answers(6, seed=2, short=True)
    t = np.full(6, 0.5, np.float32)
    uniforms = np.random.default_rng(2).random(given.answer.shape, np.float32)
    noised = add_noise(given, t, uniforms, MASK_ID, EOS_ID)
    variables = {"params": params}
    together = jax.jit(
        lambda: reference_log_probs(
            model, variables, noised.rows, noised.lengths, given.answer, first=given.prompt_length
        )
    )()
    row = int(np.argmin(given.kept))
    p, n = given.prompt_length[row], noised.lengths[row]
    assert n < p + 6
    alone = jax.jit(model.apply)(variables, noised.rows[row : row + 1, :n], n[None])
    logits = alone.logits[0].at[:, MASK_ID].set(-jnp.inf)
    expected = jax.nn.log_softmax(logits)[np.arange(p, n), given.answer[row, : n - p]]
    np.testing.assert_allclose(together[row, : n - p], expected, atol=1e-5)


# A toy world with exact numbers: two tokens of three symbols from a known joint distribution.
JOINT = np.array([[0.30, 0.05, 0.05], [0.05, 0.20, 0.05], [0.02, 0.03, 0.25]])
SYMBOLS, TOY_MASK = 3, 3
STATES = list(itertools.product(range(4), repeat=2))  # noised rows, 3 being the mask


def table_log_probs(table, noised, answer):
    """log p at each position from a table `[4, 4, 2, 3]`: one logit vector for each noised row."""
    log_probs = jax.nn.log_softmax(table)[noised[:, 0], noised[:, 1]]
    return jnp.take_along_axis(log_probs, answer[..., None], axis=-1)[..., 0]


def exact_nelbo(table, answer):
    """E over t and masks, by enumeration of the masks and a fine grid of t."""
    t = (np.arange(20000) + 0.5) / 20000
    total = 0.0
    for masks in itertools.product([False, True], repeat=2):
        noised = np.where(masks, TOY_MASK, answer)[None]
        log_probs = np.asarray(table_log_probs(table, noised, np.array([answer])))[0]
        count = sum(masks)
        probability = t**count * (1 - t) ** (2 - count)
        total += (probability / t).mean() * -(log_probs * masks).sum()
    return total


@pytest.mark.slow
def test_expected_loss_is_the_exact_nelbo():
    table = jnp.asarray(np.random.default_rng(0).standard_normal((4, 4, 2, SYMBOLS)))
    answer = np.array([1, 2])
    # With two tokens: half the joint prediction, and half of each order's second token.
    both = np.asarray(jax.nn.log_softmax(table[3, 3]))[np.arange(2), answer]
    second = jax.nn.log_softmax(table[1, 3, 1])[2]
    first = jax.nn.log_softmax(table[3, 2, 0])[1]
    closed = -0.5 * (both.sum() + first + second)
    np.testing.assert_allclose(exact_nelbo(table, answer), closed, rtol=1e-4)

    batch = 20000
    given = Answers(
        np.zeros((batch, 0), np.int32), np.zeros(batch, np.int32),
        np.tile(answer, (batch, 1)), np.full(batch, 2),
    )  # fmt: skip

    @jax.jit
    def mean(seed):
        keys = jax.random.split(jax.random.key(seed))
        t = antithetic_times(keys[0], batch)
        uniforms = jax.random.uniform(keys[1], (batch, 2))
        noised = add_noise(given, t, uniforms, TOY_MASK, 0)
        log_probs = table_log_probs(table, noised.rows, given.answer)
        return denoising_nats(log_probs, noised.masked, t, jnp.ones((batch, 2))).mean()

    means = [float(mean(seed)) for seed in range(10)]
    error = np.std(means) / np.sqrt(10)
    assert abs(np.mean(means) - closed) < 4 * error < 0.03


@pytest.mark.slow
def test_training_a_table_reaches_the_known_optimum():
    # The optimum is the true posterior at every noised row; its NELBO is the entropy of JOINT.
    entropy = -(JOINT * np.log(JOINT)).sum()
    optimizer = optax.adam(0.05)
    batch = 512

    def loss(table, key):
        keys = jax.random.split(key, 3)
        drawn = jax.random.choice(keys[0], 9, (batch,), p=jnp.asarray(JOINT.ravel()))
        answer = jnp.stack([drawn // 3, drawn % 3], axis=1)
        empty = jnp.zeros((batch, 0), jnp.int32)
        given = Answers(empty, jnp.zeros(batch, jnp.int32), answer, jnp.full(batch, 2))
        t = antithetic_times(keys[1], batch)
        uniforms = jax.random.uniform(keys[2], (batch, 2))
        noised = add_noise(given, t, uniforms, TOY_MASK, 0)
        log_probs = table_log_probs(table, noised.rows, answer)
        return denoising_nats(log_probs, noised.masked, t, jnp.ones((batch, 2))).mean()

    def update(carry, i):
        table, state = carry
        gradient = jax.grad(loss)(table, jax.random.fold_in(jax.random.key(0), i))
        updates, state = optimizer.update(gradient, state)
        table = optax.apply_updates(table, updates)
        return (table, state), table

    start = jnp.zeros((4, 4, 2, SYMBOLS))
    _, tables = jax.jit(lambda c: jax.lax.scan(update, c, jnp.arange(1500)))(
        (start, optimizer.init(start))
    )
    table = tables[-700:].mean(axis=0)
    answers_ = [np.array(pair) for pair in itertools.product(range(3), repeat=2)]
    nelbo = sum(JOINT[tuple(answer)] * exact_nelbo(table, answer) for answer in answers_)
    # For the exact posterior every order of writing has the probability of the chain rule.
    marginal = -0.5 * sum((m * np.log(m)).sum() for m in (JOINT.sum(0), JOINT.sum(1)))
    conditional = entropy - marginal
    optimum = marginal + conditional
    assert optimum == pytest.approx(entropy)
    assert nelbo == pytest.approx(optimum, abs=0.01) and nelbo > optimum - 1e-3
    posterior = jax.nn.softmax(table[0, 3, 1])
    np.testing.assert_allclose(posterior, JOINT[0] / JOINT[0].sum(), atol=0.05)


# ---- The step


def settings_of(**changes):
    values = dict(
        trainable=Full(), steps=10, accumulate=1, learning_rate=1e-2, warmup_steps=2,
        final_rate=0.1, weight_decay=0.1,
        beta2=0.99, gradient_clip=0.0, ema_decay=0.9, eos_weight=0.3,
        short_share=0.5, fsdp=False,
    )  # fmt: skip
    return FinetuneSettings(**(values | changes))


@functools.cache
def finetuner(seed: int, devices: int, **changes):
    """Compiled once for all that take steps with it."""
    model, _ = backbone(seed, blocks=1)
    return Finetuner(
        model, EOS_ID, settings_of(**changes), sharding.make_mesh(jax.devices()[:devices])
    )


@functools.cache
def run_steps(count: int, seed: int = 0, devices: int = 1, **changes):
    tuner = finetuner(seed, devices, **changes)
    _, params = backbone(seed, blocks=1)
    given, mesh = answers(16, seed=1), tuner.mesh
    state = jax.jit(tuner.init)(jax.random.key(9), params)
    keeps_base = tuner.settings.trainable.keeps_base
    if keeps_base:
        state = state._replace(weights=randomise(state.weights, 1, 0.1))
    before = jax.device_get(state)
    base = params if keeps_base else None
    if devices > 1:
        base = sharding.place_parameters(mesh, base, tuner.settings.fsdp)
        state = tuner.place(state)
    for step in range(count):
        chosen = np.random.default_rng(step).permutation(16)[:8]
        examples = Examples(given.prompt[chosen], given.prompt_length[chosen], given.answer[chosen])
        if devices > 1:
            examples = sharding.split(mesh, examples)
        state = tuner.step(state, base, examples, jax.random.key(7), np.int32(step))
    return tuner, params, given, before, jax.device_get(state)


def allclose(ours, theirs, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


@pytest.mark.slow
def test_one_step_against_its_definition():
    tuner, params, given, _, state = run_steps(1)
    key = jax.random.fold_in(jax.random.key(7), 0)
    keys = [jax.random.fold_in(key, i) for i in range(4)]
    chosen = np.random.default_rng(0).permutation(16)[:8]
    part = jax.tree.map(lambda x: x[chosen], given)
    t = antithetic_times(keys[0], 8)
    uniforms = jax.random.uniform(keys[1], (8, 6))
    short = np.asarray(jax.random.uniform(keys[2], (8,)) < 0.5)
    assert 0 < short.sum() < 8

    rows, lengths = np.zeros((8, 11), np.int32), np.zeros(8, np.int32)
    target, weight = np.zeros((8, 11), np.int32), np.zeros((8, 11), np.float32)
    tokens = 0.0
    for row in range(8):
        own = int((part.answer[row] != EOS_ID).sum())
        own += own < 6
        kept = own if short[row] else 6
        p = part.prompt_length[row]
        answer = part.answer[row, :kept]
        masked = np.asarray(uniforms[row, :kept] < t[row])
        line = np.concatenate([part.prompt[row, :p], np.where(masked, MASK_ID, answer)])
        rows[row, : p + kept], lengths[row] = line, p + kept
        target[row, p : p + kept] = answer
        own_weight = np.where(np.arange(kept) < own, 1.0, 0.3)
        weight[row, p : p + kept] = own_weight * masked / t[row]
        tokens += own_weight.sum()

    def loss(params):
        logits = tuner.model.apply({"params": params}, rows, lengths).logits
        log_probs = jax.nn.log_softmax(logits.at[..., MASK_ID].set(-1e30))
        picked = jnp.take_along_axis(log_probs, target[..., None], axis=-1)[..., 0]
        return -(picked * weight).sum() / tokens

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(state.sums.loss, value, rtol=1e-5)
    norm = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(state.sums.gradient_norm, norm, rtol=1e-4)

    def adamw(weight, g):  # the first step: m / (sqrt(v) + eps) is g / (|g| + eps)
        rate = 1e-2 / 3
        decay = 0.1 if weight.ndim > 1 else 0.0
        return weight - rate * (g / (np.abs(g) + 1e-8) + decay * weight)

    weights = jax.tree.map(lambda w, g: adamw(np.asarray(w), np.asarray(g)), params, gradient)
    # Where the gradient is as small as rounding its sign is free.
    near = jax.tree.map(lambda g: np.abs(np.asarray(g)) > 1e-6, gradient)
    jax.tree.map(
        lambda ours, theirs, where: np.testing.assert_allclose(
            ours[where], theirs[where], atol=2e-4
        ),
        state.weights, weights, near,
    )  # fmt: skip
    # decay = (1 + 0) / (10 + 0) at the first step
    average = jax.tree.map(lambda w, new: 0.1 * w + 0.9 * new, params, state.weights)
    allclose(state.average, average, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_accumulation_changes_nothing_but_rounding():
    whole, cut = (run_steps(1, **changes)[-1] for changes in ({}, {"accumulate": 4}))
    np.testing.assert_allclose(whole.sums.loss, cut.sums.loss, rtol=1e-5)
    np.testing.assert_allclose(whole.sums.gradient_norm, cut.sums.gradient_norm, rtol=1e-4)


@pytest.mark.slow
def test_lora_trains_the_overlay_alone_and_merges():
    tuner, params, _, before, state = run_steps(2, trainable=Lora(2.0, (), 2))
    assert set(state.weights) == {"blocks_0/attn_qkv/kernel", "blocks_0/attn_out/kernel"}
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before.weights, state.weights)
    assert all(jax.tree.leaves(changed))
    allclose(tuner.params(params, state.average), lora.merge(params, state.average, 2.0), rtol=1e-6)


def test_of_a_state_in_parts_on_four_devices_each_holds_a_quarter():
    """Weights, their average and both moments."""
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    model, params = backbone()
    for fsdp, share in ((True, 0.25), (False, 1.0)):
        own = settings_of(fsdp=fsdp)
        tuner = Finetuner(model, EOS_ID, own, sharding.make_mesh(jax.devices()[:4]))
        state = FinetuneState(params, params, own.optimizer.init(params), zero_sums())
        placed = jax.tree.leaves(tuner.place(state))
        held = sum(x.addressable_shards[0].data.nbytes for x in placed)
        assert held == pytest.approx(share * sum(x.nbytes for x in placed), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"trainable": Lora(2.0, (), 2)}, {}], ids=["lora", "full"])
def test_parts_on_four_devices_learn_as_one_device_does(changes):
    """Of LoRA it is the base that lies in parts."""
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    one = run_steps(2, **changes)[-1]
    tuner, _, _, _, four = run_steps(2, devices=4, fsdp=True, **changes)
    np.testing.assert_allclose(four.sums.loss, one.sums.loss, rtol=1e-5)
    np.testing.assert_allclose(four.sums.gradient_norm, one.sums.gradient_norm, rtol=1e-4)


@pytest.mark.slow
def test_nelbo_of_parts():
    if jax.device_count() < 4:
        pytest.skip("needs four devices")
    model, params = backbone(blocks=1)
    given, found = answers(6), []
    for devices, in_parts in ((1, False), (4, True)):
        mesh = sharding.make_mesh(jax.devices()[:devices])
        program = NelboProgram(model, EOS_ID, mesh, 2, 3, 0, in_parts)
        found.append(program(sharding.place_parameters(mesh, params, in_parts), given))
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_rate_rises_and_falls():
    rates = [float(settings_of(steps=100, warmup_steps=10).rate(step)) for step in range(101)]
    assert rates[0] == pytest.approx(1e-2 / 11) and rates[10] == pytest.approx(1e-2)
    assert rates[55] == pytest.approx(0.55e-2) and rates[100] == pytest.approx(1e-3)
    assert np.argmax(rates) == 10


def test_epochs_and_shares_become_steps(configs):
    """The recipe of augmented GSM8K: 15 epochs of batches of 256, 1 % of them warm-up."""
    config = load_config(configs / "gsm8k_aug.py")
    found = FinetuneSettings.from_config(config, 385_620)
    assert (found.steps, found.warmup_steps) == (22_595, 226)
    rates = [float(found.rate(step)) for step in (0, 226, 22_595)]
    np.testing.assert_allclose(rates, [2e-4 / 227, 2e-4, 2e-5], rtol=1e-4)
    assert (found.beta2, found.weight_decay, found.gradient_clip) == (0.95, 0.1, 1.0)

    plain = load_config(configs / "gsm8k.py")
    told = FinetuneSettings.from_config(plain, 385_620)
    assert (told.steps, told.warmup_steps) == (plain.sft.steps, plain.sft.warmup_steps)
    with pytest.raises(InputError, match="the warm-up has 1 of 1 steps; expected fewer"):
        FinetuneSettings.from_config(config, 17)


def test_sigma_is_that_of_the_log_linear_schedule():
    t = np.array([0.01, 0.25, 1.0], np.float32)
    np.testing.assert_allclose(1 - np.exp(-noise_level(t)), 0.999 * t, rtol=1e-4)


@pytest.mark.slow
def test_time_conditioned_backbones_see_sigma():
    model, params = backbone(seed=1, time_conditioning=True)
    given = answers(4)
    tuner = Finetuner(model, EOS_ID, settings_of(), sharding.make_mesh(jax.devices()[:1]))
    state = jax.jit(tuner.init)(jax.random.key(0), params)
    examples = Examples(given.prompt, given.prompt_length, given.answer)
    before = np.asarray(params["sigma_map"]["linear_0"]["kernel"])
    state = tuner.step(state, None, examples, jax.random.key(0), np.int32(0))
    assert np.isfinite(state.sums.loss)
    # The sinusoid's second half is sin(sigma f): without noise it would be 0 and learn nothing.
    after = np.asarray(state.weights["sigma_map"]["linear_0"]["kernel"])
    assert np.abs(after - before * (1 - 0.1e-2 / 3))[200:].max() > 1e-4


# ---- Text blocks


def test_text_is_cut_as_published(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("0 1 2 3\n<eos>\napple pear each\n")
    found = text_blocks(file, tokenizer(), 6)
    # Documents 0 1 2 3 and apple pear each, eos after each, in fours between eos.
    e, ids = EOS_ID, {word: i for i, word in enumerate(WORDS)}
    zero, apple, pear, each = ids["0"], ids["apple"], ids["pear"], ids["each"]
    expected = [[e, zero, zero + 1, zero + 2, zero + 3, e], [e, e, apple, pear, each, e]]
    np.testing.assert_array_equal(found.blocks[:2], expected)
    np.testing.assert_array_equal(found.blocks[2], [e, e, e, e, e, e])
    np.testing.assert_array_equal(found.lengths, [6, 6, 3])
    assert found.documents == 2
    # As a file begins that a Windows program wrote; two of them put together.
    marked = "\ufeff0 1 2 3\r\n<eos>\n\ufeffapple pear each\r\n"
    file.write_bytes(marked.encode())
    for array, same in zip(found, text_blocks(file, tokenizer(), 6), strict=True):
        np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", "byte 1 is not UTF-8"),
        (b" \n", "holds no text"),
        (b"\xef\xbb\xbf\n", "no text"),
    ],
)
def test_text_that_cannot_be_used_is_named(tmp_path, content, message):
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        text_blocks(file, tokenizer(), 6)
