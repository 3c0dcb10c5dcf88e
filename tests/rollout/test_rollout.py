"""The compiled rollout: against a plain loop, row by row, without transfers, and its invariants."""

import functools

import jax
import numpy as np
import pytest
from support import toy
from support.plain_rollout import PlainRollout
from support.toy import UNOPTIMISED
from support.toy_rollout import (
    ASKED_WHOLE,
    BATCH,
    INFILLED,
    VARIANTS,
    compiled,
    given,
    prompts_of,
    quickly_compiled,
    run,
    run_rows,
    whole_batch,
    world,
)

from reoac_jax.rollout import Prompts, backbone_denoiser

pytestmark = [pytest.mark.as_used, pytest.mark.slow]


@pytest.mark.parametrize("name", VARIANTS)
def test_equals_plain_loop(name):
    settings = toy.rollout_settings(**VARIANTS[name])
    rows = (0, 1, ASKED_WHOLE, 5, BATCH - 1) if name in INFILLED else range(4)
    check_against_plain_loop(settings, prompts_of(settings), whole_batch(settings), rows)


@pytest.mark.parametrize("name", INFILLED)
def test_given_tokens_never_change(name):
    settings = toy.rollout_settings(**VARIANTS[name])
    tokens = np.asarray(given())
    fixed = tokens != toy.MASK_ID
    result = whole_batch(settings)
    np.testing.assert_array_equal(result.tokens[fixed], tokens[fixed])
    assert (result.tokens[~fixed] != toy.MASK_ID).all() or settings.update_rule == "overwrite"
    steps = result.steps
    for t, b in zip(*np.nonzero(steps.active), strict=True):
        np.testing.assert_array_equal(steps.tokens[t, b][fixed[b]], tokens[b][fixed[b]])
    changed = (steps.written | steps.repaired) & steps.active[..., None]
    assert changed[:, ASKED_WHOLE:].any() and not changed[:, fixed].any()
    if settings.update_rule == "denoise":  # a row without blanks is finished before it starts
        assert not steps.active[:, -1].any() and not steps.cost[:, -1].any()


quickly = functools.partial(jax.jit, compiler_options=UNOPTIMISED)


@functools.cache
def forward_pass(**settings):
    """The denoiser of one row, for all variants that denoise alike."""
    settings = toy.rollout_settings(**settings)
    model, variables, *_ = world(settings)
    return quickly(lambda *row: backbone_denoiser(model, variables, settings)(*row))


@functools.cache
def heads_of_one(modules):
    return quickly(modules.apply)


def forward_passes(settings):
    """The denoiser of one row and the heads, as the plain loop calls them."""
    names = ["draw", "time_conditioned"]  # what the denoiser reads of the settings
    if settings.time_conditioned:
        names += ["sigma", "sigma_schedule", "max_steps"]
    _, _, modules, head_params = world(settings)
    heads = functools.partial(heads_of_one(modules), head_params)
    return forward_pass(**{name: getattr(settings, name) for name in names}), heads


def check_against_plain_loop(settings, prompts, result, rows):
    """Every step of `rows` of a compiled rollout."""
    denoise_row, heads = forward_passes(settings)
    for b in rows:
        row = jax.tree.map(lambda x, b=b: x[b : b + 1], prompts)
        denoise = functools.partial(denoise_row, row)
        plain = PlainRollout(denoise, heads, row, toy.vocabulary(), settings)
        tokens, steps = plain.run()
        assert result.tokens[b].tolist() == tokens
        active = result.steps.active[:, b]
        assert active.sum() == len(steps) and active[: len(steps)].all()
        for t, step in enumerate(steps):
            one = jax.tree.map(lambda x, t=t, b=b: x[t, b], result.steps)
            assert one.tokens.tolist() == list(step["tokens"])
            assert np.flatnonzero(one.legal).tolist() == step["legal"]
            assert one.decided == step["decided"]
            assert (one.operator, one.chosen) == (step["operator"], step["chosen"])
            assert np.flatnonzero(one.written).tolist() == step["written"]
            assert one.cost == pytest.approx(step["cost"])
            assert one.forward_passes == step["passes"]
            assert one.branched == bool(step["candidates"])
            if step["candidates"]:
                operators, values = zip(*step["candidates"], strict=True)
                assert one.candidates.operator.tolist() == list(operators)
                np.testing.assert_allclose(one.candidates.value, values, atol=1e-5)
        assert not result.steps.cost[len(steps) :, b].any()


def test_an_operator_that_can_change_nothing_is_never_chosen():
    """And is left out of the choice only where another can change something."""
    for name in ("denoise_mask", "denoise_mask_branch", "overwrite_mask"):
        settings = toy.rollout_settings(**VARIANTS[name])
        steps = whole_batch(settings).steps
        np.testing.assert_array_equal(
            steps.operator, np.where(steps.decided, steps.chosen, steps.operator)
        )
        legal = np.take_along_axis(steps.legal, steps.chosen[..., None], axis=-1)[..., 0]
        assert legal[steps.active].all()
        changed = steps.written.any(axis=-1) | steps.repaired.any(axis=-1)
        several = steps.active & (steps.legal.sum(axis=-1) < len(settings.operators))
        assert several.any() and changed[several].all()
        decided = steps.legal[steps.active & steps.decided]
        assert not decided.all() and (decided.sum(axis=-1) > 1).any()


@pytest.mark.parametrize("name", ["denoise", "denoise_mask"])
def test_the_last_step_is_nobodys_choice_and_charged_least(name):
    """There everything is revealed whatever is chosen."""
    settings = toy.rollout_settings(**VARIANTS[name])
    steps = whole_batch(settings).steps
    last = steps.active[-1]
    assert last.any() and not steps.decided[-1][last].any()
    assert steps.decided[:-1][steps.active[:-1]].all()
    cheapest = np.argmin(settings.costs)
    assert settings.operators[cheapest].name == "O_FAST"
    for field in (steps.operator, steps.chosen, steps.executed):
        assert (field[-1][last] == cheapest).all()
    np.testing.assert_allclose(steps.cost[-1][last], 2.0)
    np.testing.assert_array_equal(
        steps.legal[-1][last], np.eye(5, dtype=bool)[[cheapest] * last.sum()]
    )
    assert (steps.operator[:-1][steps.active[:-1]] != cheapest).any()


def test_variants_reach_what_they_test():
    """In the tests above fallback, repair, O_BRANCH's own look-ahead, early ends and complete rows
    that go on all occur."""
    steps = [whole_batch(toy.rollout_settings(**changes)).steps for changes in VARIANTS.values()]
    by_name = dict(zip(VARIANTS, steps, strict=True))
    plain = by_name["denoise"]
    assert ((plain.operator != plain.chosen) & plain.active).any()
    assert (~plain.active[-1]).any()
    assert by_name["denoise_thresholds"].repaired.any()
    assert by_name["denoise_repair_branch"].repaired.any()
    above = by_name["denoise_thresholds"]
    assert (above.written.sum(axis=-1)[above.active & (above.operator < 2)] > 1).any()
    alone = by_name["mask_of_one_branching_operator"]
    assert (alone.branched & (alone.legal == [False, False, True]).all(axis=-1)).any()
    fewer = by_name["denoise_mask_branch"]
    assert (fewer.branched & (fewer.legal[..., [0, 1, 2, 4]].sum(axis=-1) < 4)).any()
    branch = by_name["features_only"]
    own = branch.branched & branch.decided
    assert own.any() and (branch.operator[own] == 3).all() and (branch.executed[own] != 3).all()
    for name in ("denoise_mask_branch", "critic_backbone_branch"):
        stops = by_name[name]
        ended = (stops.active & ~stops.decided & ~stops.branched)[:-1].any(axis=0)
        assert ended.any() and not ended.all() and stops.branched.any()
    masked_again = by_name["remask"]
    assert (masked_again.written & masked_again.repaired).any()
    steps_of_rows = masked_again.active.sum(axis=0)
    assert steps_of_rows.min() < toy.rollout_settings().max_steps < steps_of_rows.max()
    scheduled = by_name["denoise_repair_branch"]
    assert (scheduled.branched & ~scheduled.decided).any()


@pytest.mark.parametrize(
    ("name", "rows", "width"),
    [
        ("denoise_repair_branch", [5], 12),
        ("overwrite_branch", [8, 5, 9, 3, 10, 0, 11, 12], 7),
        ("denoise", [5, 4, 3, 13, 2, 1, 0, 6], 7),
    ],
)
def test_row_is_the_same_alone_in_any_batch_with_any_padding(name, rows, width):
    settings = toy.rollout_settings(**VARIANTS[name])
    whole = whole_batch(settings)
    part = run_rows(settings, rows=rows, width=width)
    for i, row in enumerate(rows):
        if row >= BATCH:  # a stranger
            continue
        np.testing.assert_array_equal(part.tokens[i], whole.tokens[row])
        for field in ("active", "operator", "cost", "forward_passes", "branched", "written"):
            np.testing.assert_array_equal(
                getattr(part.steps, field)[:, i], getattr(whole.steps, field)[:, row]
            )


@pytest.mark.parametrize("name", VARIANTS)
def test_subs_holds(name):
    settings = toy.rollout_settings(**VARIANTS[name])
    result = whole_batch(settings)
    steps = result.steps
    after = np.concatenate([steps.tokens[1:], result.tokens[None]])
    last_active = steps.active & ~np.append(steps.active[1:], np.zeros((1, BATCH), bool), axis=0)
    after = np.where(last_active[..., None], result.tokens[None], after)
    stands = steps.written & ~steps.repaired  # a complete row may be masked again in the same step
    assert stands.any() and not (after[stands] == toy.MASK_ID).any()
    if settings.update_rule == "denoise":
        assert not (result.tokens == toy.MASK_ID).any()
        assert not (steps.written & (steps.tokens != toy.MASK_ID)).any()


def test_nothing_crosses_to_the_host_inside_the_loop():
    settings = toy.rollout_settings(**VARIANTS["denoise_repair_branch"])
    model, variables, modules, head_params = world(settings)
    static = (model, modules, settings)
    arguments = jax.device_put((variables, head_params, prompts_of(settings), toy.vocabulary()))
    program = compiled.lower(*static, *arguments).compile()
    text = program.as_text()
    for word in ("infeed", "outfeed", "send(", "recv(", "host_callback", "xla_python_cpu_callback"):
        assert word not in text
    with jax.transfer_guard("disallow"):
        result = program(*arguments)
        result.tokens.block_until_ready()
    assert result.tokens.shape == (BATCH, settings.gen_len)


def test_a_mask_id_in_the_prompt_is_no_generated_mask():
    settings = toy.rollout_settings(**VARIANTS["denoise"])
    prompts = toy.prompts(BATCH)
    prompts = Prompts(prompts.tokens.at[:, 0].set(toy.MASK_ID), *prompts[1:])
    result = run(settings, prompts, quickly_compiled)
    assert not (result.tokens == toy.MASK_ID).any()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.steps.observation))
