"""Rows that are checked and written anew: the compiled loop against a plain one, and its limits."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.config.parameters import parse_member
from reoac_jax.rollout import backbone_denoiser
from reoac_jax.samplers import SAMPLERS, sample
from reoac_jax.samplers.rewriting import sample_checked

pytestmark = pytest.mark.slow

ROWS = 6
THRESHOLD = "threshold:threshold=0.25,block_len=0"
SETTINGS = toy.rollout_settings(draw=DrawSettings("argmax", 1.0), max_steps=8)


def one_in(chance):
    """A check that a row in `chance` passes, whatever stands around it."""

    def right(prompt, row):
        key = np.array([*prompt, -1, *row], np.int32).tobytes()
        return zlib.crc32(key) % chance == 0

    def check(prompts, lengths, filled, wanted):
        assert np.asarray(wanted).any()
        return np.array(
            [
                bool(w) and right(np.asarray(p)[:n], np.asarray(f))
                for p, n, f, w in zip(prompts, lengths, filled, wanted, strict=True)
            ]
        )

    return right, check


def never(prompts, lengths, filled, wanted):
    return np.zeros(len(filled), bool)


def always(prompts, lengths, filled, wanted):
    return np.asarray(wanted).copy()


@functools.cache
def world():
    model, params = toy.backbone(3, scale=0.5, blocks=1)
    return model, {"params": params}


class Asked:
    """Whom the compiled programs ask: one for all of them, so that checks share a program."""

    present = staticmethod(never)

    @classmethod
    def check(cls, *arguments):
        return cls.present(*arguments)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _checked(model, name, passes, slots, variables, prompts):
    sampler = parse_member(name, SAMPLERS, "test")
    ends = toy.vocabulary().is_eos
    denoise = backbone_denoiser(
        model, variables, SETTINGS, sampler.draw(SETTINGS.draw).for_attempts(), ends
    )
    return sample_checked(denoise, prompts, SETTINGS, sampler, ends, Asked.check, passes, slots)


def infilled(given=None, **rows):
    """Prompts with something given, or with nothing but masks: one program for both."""
    masks = jnp.full((ROWS, 8), toy.MASK_ID, jnp.int32)
    return toy.prompts(ROWS, **rows)._replace(given=masks if given is None else given)


def checked(check, passes, name=THRESHOLD, slots=None, prompts=None):
    prompts = infilled() if prompts is None else prompts
    model, variables = world()
    Asked.present = staticmethod(check)
    return jax.device_get(_checked(model, name, passes, slots, variables, prompts))


@functools.cache
def alone():
    """The sampler itself."""
    model, variables = world()
    sampler, ends = parse_member(THRESHOLD, SAMPLERS, "test"), toy.vocabulary().is_eos

    @jax.jit
    def run(prompts):
        denoise = backbone_denoiser(model, variables, SETTINGS, sampler.draw(SETTINGS.draw), ends)
        return sample(denoise, prompts, SETTINGS, sampler, ends)[0]

    return jax.device_get(run(toy.prompts(ROWS)))


@functools.cache
def forward():
    model, variables = world()
    draw = DrawSettings("sample", 1.0, likeliest=True)
    return jax.jit(
        lambda prompts, tokens, step: (
            backbone_denoiser(model, variables, SETTINGS, draw)(prompts, tokens, step).tokens
        )
    )


def plain(row, right, passes):
    """Threshold 0.25 over one row, one attempt after the other."""
    prompts = toy.prompts(ROWS, rows=[row])
    prompt = np.asarray(prompts.tokens[0])[: int(prompts.lengths[0])]
    tokens, first, taken = [toy.MASK_ID] * 8, None, 0
    for step in range(passes):
        seen = forward()(prompts, jnp.array([tokens], jnp.int32), jnp.array([step], jnp.int32))
        seen = jax.tree.map(lambda x: np.asarray(x)[0], seen)
        token, sure = seen.token, seen.confidence
        if first is None:
            token, sure = seen.likeliest, seen.highest
        filled = [int(n) if t == toy.MASK_ID else t for t, n in zip(tokens, token, strict=True)]
        if right(prompt, filled):
            return filled, step + 1
        masked = [i for i in range(8) if tokens[i] == toy.MASK_ID]
        shown = {max(masked, key=lambda i: (sure[i], -i))}
        shown |= {i for i in masked if sure[i] > np.float32(0.25)}
        tokens = [filled[i] if i in shown else t for i, t in enumerate(tokens)]
        taken += 1
        if step == passes - 1:
            return first or filled, step + 1
        if toy.MASK_ID not in tokens:
            first = first or tokens
            if passes - 1 - step < taken:
                return first, step + 1
            tokens, taken = [toy.MASK_ID] * 8, 0
    raise AssertionError


@pytest.mark.parametrize(("chance", "passes"), [(9, 20), (30, 8), (30, 3)])
def test_equals_a_plain_loop(chance, passes):
    right, check = one_in(chance)
    got, _ = checked(check, passes)
    wanted = [plain(row, right, passes) for row in range(ROWS)]
    np.testing.assert_array_equal(got.tokens, [tokens for tokens, _ in wanted])
    np.testing.assert_array_equal(got.forward_passes, [count for _, count in wanted])
    np.testing.assert_array_equal(got.steps, got.forward_passes)
    if passes == 20:  # more than one attempt, and not all to the end
        assert 8 < got.forward_passes.max() and got.forward_passes.min() < 20


def test_where_nothing_checks_the_sampler_s_own_answer_stands():
    own = alone()
    got, _ = checked(never, 20)
    np.testing.assert_array_equal(got.tokens, own.tokens)
    assert (got.forward_passes > own.forward_passes).all() and got.forward_passes.max() <= 20
    for passes in (8, 3):
        enough = own.steps <= passes
        got, _ = checked(never, passes)
        np.testing.assert_array_equal(got.tokens[enough], own.tokens[enough])
        assert (got.tokens != toy.MASK_ID).all() and got.forward_passes.max() <= passes


def test_what_checks_at_once_takes_one_pass():
    got, passes = checked(always, 8)
    assert (got.forward_passes == 1).all() and passes == 1
    masks = jnp.full((ROWS, 8), toy.MASK_ID, jnp.int32)
    first = forward()(toy.prompts(ROWS), masks, jnp.zeros(ROWS, jnp.int32))
    np.testing.assert_array_equal(got.tokens, first.likeliest)


def test_neighbours_and_slots_do_not_matter():
    _, check = one_in(9)
    whole, _ = checked(check, 20)
    queued, _ = checked(check, 20, slots=2)
    jax.tree.map(np.testing.assert_array_equal, whole, queued)
    part, _ = checked(check, 20, prompts=infilled(rows=[9, 4, 8, 7, 1, 10]))  # among strangers
    np.testing.assert_array_equal(part.tokens[[1, 4]], whole.tokens[[4, 1]])


def test_given_tokens_stay():
    _, check = one_in(30)
    given = toy.given(ROWS)
    got, _ = checked(check, 20, prompts=infilled(given))
    fixed = np.asarray(given) != toy.MASK_ID
    np.testing.assert_array_equal(got.tokens[fixed], np.asarray(given)[fixed])
    assert (got.tokens != toy.MASK_ID).all() and got.forward_passes[-1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_can_be_checked(name):
    _, check = one_in(30)
    got, _ = checked(check, 30, name=name, prompts=toy.prompts(ROWS))
    assert (got.tokens != toy.MASK_ID).all() and got.forward_passes.max() <= 30
