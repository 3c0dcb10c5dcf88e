"""Every rule against a plain Python version of it, token for token, and what all have in common."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import plain_samplers, table_model
from support.table_model import GEN_LEN, MASK, VARIANTS, some_starts

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.config.parameters import parse_member
from reoac_jax.samplers import SAMPLERS, sample
from reoac_jax.system.errors import InputError

# Rules whose orders are not random, with parameters that make a difference here.
DETERMINISTIC = (
    "confidence", "confidence:skip_eos=true", "margin", "margin:skip_eos=true", "entropy",
    "entropy:skip_eos=true", "left_to_right", "left_to_right:skip_eos=true",
    "threshold:threshold=0.5,block_len=0", "threshold:threshold=0.8,block_len=0",
    "factor:block_len=0", "factor:factor=2,block_len=0", "entropy_bound:gamma=0.5",
    "entropy_bound:gamma=1.5",
    "prefix_threshold:threshold=0.6", "klass:threshold=0.4,stable=0.3,block_len=0",
    "klass:threshold=0.3,stable=0.1,history=3,block_len=0", "low_confidence",
    "low_confidence:eos_last=true", "dilated", "path_planning", "path_planning:eta=0",
    "path_planning:eta=2.5", "schedule:counts=1-2", "schedule:counts=2-1-1-1-1-1-1",
)  # fmt: skip
# Each takes a second or two to compile: a fast run has one of each kind.
FAST = ("confidence", "threshold:threshold=0.5,block_len=0", "path_planning")
# What is revealed by an even share, by an own number, as long as it is sure, after what it saw
# before, by rank, by place, and what masks again.
KINDS = (
    "entropy:skip_eos=true", "schedule:counts=2-1-1-1-1-1-1", "threshold:threshold=0.5,block_len=0",
    "klass:threshold=0.3,stable=0.1,history=3,block_len=0", "low_confidence", "dilated",
    "path_planning:eta=2.5",
)  # fmt: skip
# One of each rule that may take more passes than there are steps.
ADAPTIVE = (
    "threshold:threshold=0.8,block_len=0", "factor:block_len=0", "entropy_bound:gamma=0.5",
    "prefix_threshold:threshold=0.6", "klass:threshold=0.4,stable=0.3,block_len=0", "dilated",
)  # fmt: skip
EVERY = [pytest.param(t, marks=() if t in FAST else pytest.mark.slow) for t in DETERMINISTIC]
STARTS = some_starts()


def sampler(text: str, **changes):
    return dataclasses.replace(parse_member(text, SAMPLERS, "--policy"), **changes)


def own_options(rule) -> dict:
    """The parameters that the plain version takes."""
    common = {"block_len", "steps", "limit", "tokens", "temperature", "top_p", "drawn_entropy"}
    return {name: getattr(rule, name) for name in rule.parameters() if name not in common}


def plain(rule, steps: int):
    """Tokens and passes of all of `STARTS`."""
    function = getattr(plain_samplers, rule.name)
    own = rule.row_steps(table_model.settings(steps))
    return [
        plain_samplers.run(
            function, row % VARIANTS, start, own, rule.block_len, **own_options(rule)
        )
        for row, start in enumerate(STARTS)
    ]


def check_against_plain(rule, steps: int) -> np.ndarray:
    """Returns the rows' passes."""
    result, _ = table_model.run(rule, STARTS, steps)
    expected = plain(rule, steps)
    assert [tuple(row) for row in result.tokens.tolist()] == [tokens for tokens, _ in expected]
    assert result.forward_passes.tolist() == [passes for _, passes in expected]
    assert result.steps.tolist() == result.forward_passes.tolist()
    assert (result.tokens != MASK).all()
    return result.forward_passes


# Two blocks for three steps: both have fewer steps than masks.
@pytest.mark.parametrize("text", EVERY)
def test_a_rule_equals_its_plain_version(text):
    check_against_plain(sampler(text, block_len=4), 3)


@pytest.mark.slow
@pytest.mark.parametrize("text", KINDS)
def test_in_one_block_with_more_steps_than_masks(text):
    check_against_plain(sampler(text, block_len=0), 9)


@pytest.mark.slow
@pytest.mark.parametrize("text", ADAPTIVE)
def test_an_adaptive_rule_is_bounded_only_if_asked(text):
    for limit in (False, True):
        rule = sampler(text, limit=limit, block_len=2)
        if limit and rule.shares_steps:
            rule = dataclasses.replace(rule, block_len=3)
        assert (check_against_plain(rule, 2).max() <= 2) == limit


def test_every_rule_is_here():
    random = {"ancestral", "ancestral_cached", "remdm"}  # their laws: test_laws.py
    names = {text.partition(":")[0] for text in DETERMINISTIC}
    assert names | random == set(SAMPLERS)
    adaptive = {name for name in names if "limit" in sampler(name).parameters()}
    assert {text.partition(":")[0] for text in ADAPTIVE} == adaptive


@pytest.mark.slow
def test_a_block_is_finished_before_the_next_begins():
    """Blocks of 4 and 2: with a step for each, the first one's tokens are written at once."""
    seen = []

    def look(step, tokens, operator):
        seen.append((np.asarray(step).tolist(), np.asarray(tokens).tolist()))

    own = table_model.settings(2)
    rule = sampler("confidence", block_len=4)
    denoise = table_model.denoiser(DrawSettings("argmax", 1.0))
    ends = jnp.asarray(table_model.ENDS)
    sample(denoise, table_model.prompts([(MASK,) * GEN_LEN]), own, rule, ends, on_step=look)
    jax.effects_barrier()
    first, second = sorted(seen)
    masks = [[token == MASK for token in tokens[0]] for _, tokens in (first, second)]
    assert masks == [[False] * 4 + [True] * 2, [False] * 6]


ALL = [*SAMPLERS, "remdm:schedule=conf", "remdm:schedule=loop", "ancestral:skip_eos=true"]


# Of these the whole batch is worked on at once, too: some carry more from step to step than tokens.
AT_ONCE = ("ancestral", "klass", "path_planning", "remdm:schedule=conf")


@pytest.mark.slow
@pytest.mark.parametrize("text", ALL)
def test_neighbours_and_slots_change_nothing(text):
    """Drawn tokens: each row in two slots as at another's place, and as in the whole batch."""
    rule = sampler(text, block_len=4)
    whole, passes = table_model.run(rule, STARTS, 5, "sample", slots=2)
    assert whole.forward_passes.sum() <= 2 * passes
    few, _ = table_model.run(rule, STARTS, 5, "sample", slots=2, count=len(STARTS) - 1)
    for field in whole._fields:
        np.testing.assert_array_equal(getattr(few, field)[:-1], getattr(whole, field)[:-1], field)
        assert not getattr(few, field)[-1].any()  # not worked on
    order = np.random.default_rng(3).permutation(len(STARTS))
    other, _ = table_model.run(rule, STARTS, 5, "sample", slots=2, order=order)
    np.testing.assert_array_equal(other.tokens, whole.tokens[order])
    if text in AT_ONCE:
        together, _ = table_model.run(rule, STARTS, 5, "sample")
        jax.tree.map(np.testing.assert_array_equal, together, whole)
    given = np.array(STARTS) != MASK
    assert (whole.tokens != MASK).all()
    np.testing.assert_array_equal(whole.tokens[given], np.array(STARTS)[given])
    assert whole.forward_passes[-1] == whole.steps[-1] == 0  # nothing was masked


@pytest.mark.slow
def test_a_swept_number_is_compiled_once():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def run(rule, numbers, prompts, table):
        traces.append(rule)
        rule = rule.with_numbers(numbers)
        denoise = table_model.denoiser(rule.draw(DrawSettings("argmax", 1.0)), table)
        own = table_model.settings(3)
        return sample(denoise, prompts, own, rule, jnp.asarray(table_model.ENDS))[0]

    structure = sampler("threshold:block_len=0")
    prompts = table_model.prompts(STARTS)
    table = table_model.logits()
    for threshold in (0.3, 0.6, 0.7, 0.8, 0.9):
        rule = sampler("threshold:block_len=0", threshold=threshold)
        result = run(structure, rule.numbers, prompts, table)
        expected = plain(rule, 3)
        assert result.forward_passes.tolist() == [passes for _, passes in expected]
        assert [tuple(row) for row in result.tokens.tolist()] == [tokens for tokens, _ in expected]
    assert len(traces) == 1
    run(sampler("threshold:block_len=3"), structure.numbers, prompts, table)
    assert len(traces) == 2  # structure


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("treshold", "did you mean 'threshold'"),
        ("threshold:treshold=1", "did you mean 'threshold'"),
        ("threshold:threshold=2", "a number from 0.0 to 1.0"),
        ("threshold:threshold=x", "a number from 0.0 to 1.0"),
        ("threshold:threshold", "threshold= once"),
        ("threshold:limit=maybe", "True or False"),
        ("threshold:block_len=1.5", "an integer from 0"),
        ("threshold:limit=true,limit=false", "once"),
        ("remdm:schedule=cup", "one of cap, rescale, conf, loop"),
        ("dilated:rounds=3", "expected one of block_len, tokens, temperature, top_p, limit"),
        ("entropy:temperature=0.1", "temperature is 0.1 but tokens is configured"),
        ("threshold:tokens=argmax,top_p=0.9", "expected tokens=sample, or no top_p"),
        ("entropy:tokens=sample,temperature=0", "a number from 0.0001 to 100.0"),
    ],
)
def test_a_wrong_parameter_is_one_clear_line(text, message):
    with pytest.raises(InputError, match=message) as refused:
        parse_member(text, SAMPLERS, "--policy")
    assert "\n" not in str(refused.value) and "--policy" in str(refused.value)


@pytest.mark.parametrize(
    "text", [*DETERMINISTIC, "entropy:tokens=sample,temperature=0.1,top_p=0.9,drawn_entropy=true"]
)
def test_a_rule_is_written_as_it_is_read(text):
    rule = sampler(text)
    assert parse_member(str(rule), SAMPLERS, "--policy") == rule


def test_fewer_steps_than_blocks_are_refused():
    with pytest.raises(InputError, match="2 steps for 3 blocks"):
        sampler("confidence:block_len=2").check(table_model.settings(2))
    sampler("threshold:block_len=2,limit=true").check(table_model.settings(2))  # not shared out


def test_ancestral_cached_is_refused_where_the_backbone_sees_the_step():
    rule = sampler("ancestral_cached")
    with pytest.raises(InputError, match="sees|does not see the step"):
        rule.check(table_model.settings(2, time_conditioned=True, sigma="schedule"))
    rule.check(table_model.settings(2, time_conditioned=True, sigma="masked_share"))
    rule.check(table_model.settings(2, time_conditioned=False, sigma="schedule"))
