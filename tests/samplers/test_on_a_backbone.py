"""Samplers on a real forward pass: padding, neighbours, and KLASS's divergence without a large
array."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.mdlm.model import Backbone
from reoac_jax.config.parameters import parse_member
from reoac_jax.rollout import backbone_denoiser
from reoac_jax.samplers import SAMPLERS, sample

pytestmark = pytest.mark.slow

ROWS = 5


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 5))
def compiled(model, sampler, settings, variables, prompts, slots):
    ends = toy.vocabulary().is_eos
    draw = sampler.draw(DrawSettings("argmax", 1.0))
    denoise = backbone_denoiser(model, variables, settings, draw, ends)
    return sample(denoise, prompts, settings, sampler, ends, slots)[0]


def subs(logits):
    logits = np.asarray(logits, np.float64).copy()
    logits[..., toy.MASK_ID] = -np.inf
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def plain_klass(model, variables, prompt, steps, size, threshold, stable, sigma):
    """One row through the model's own call, without padding; quota 1 a pass."""
    row, before, past = [toy.MASK_ID] * size, np.zeros((size, toy.VOCAB_SIZE)), []
    passes = 0
    apply = jax.jit(model.apply)
    while toy.MASK_ID in row:
        tokens = jnp.array([[*prompt, *row]], jnp.int32)
        length = jnp.array([tokens.shape[1]], jnp.int32)
        logits = apply(variables, tokens, length, sigma(passes)).logits[0, -size:]
        p = subs(logits)
        past.append((p * np.log((p + 1e-12) / (before + 1e-12))).sum(axis=1))
        masked = [i for i in range(size) if row[i] == toy.MASK_ID]
        ready = [
            i for i in masked
            if passes >= 1 and p[i].max() > threshold and max(past[-1][i], past[-2][i]) < stable
        ]  # fmt: skip
        for i in ready or [max(masked, key=lambda i: p[i].max())]:
            row[i] = int(p[i].argmax())
        before, passes = p, passes + 1
        assert passes <= steps
    return row, passes


def check_klass(time_conditioning):
    model, params = toy.backbone(3, time_conditioning=time_conditioning, scale=0.3)
    settings = toy.rollout_settings(
        max_steps=8,
        gen_len=8,
        time_conditioned=time_conditioning,
        sigma="schedule",
        sigma_schedule="linear",
    )
    prompts = toy.prompts(ROWS)
    sampler = parse_member("klass:threshold=0.15,stable=0.05,block_len=0", SAMPLERS, "x")
    results = [
        jax.device_get(compiled(model, sampler, settings, {"params": params}, prompts, slots))
        for slots in (ROWS, 2)
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)

    def sigma(step):
        share = step / 7
        return jnp.full(1, settings.sigma_max + (settings.sigma_min - settings.sigma_max) * share)

    early = 0
    for row in range(ROWS):
        prompt = np.asarray(prompts.tokens[row])[: int(prompts.lengths[row])]
        expected, passes = plain_klass(
            model, {"params": params}, prompt, 8, 8, 0.15, 0.05,
            sigma if time_conditioning else lambda step: None,
        )  # fmt: skip
        assert results[0].tokens[row].tolist() == expected
        assert results[0].forward_passes[row] == passes
        early += passes < 8
    assert early  # some position was ready


def test_klass_equals_a_plain_loop_over_the_model():
    check_klass(time_conditioning=False)


def test_klass_on_a_backbone_that_sees_the_time():
    """The distribution before is that of the last pass's own noise level."""
    check_klass(time_conditioning=True)


def test_no_array_of_all_distributions_exists():
    rows, gen_len = 16, 64
    config = BackboneConfig(hidden_dim=64, n_blocks=1, n_heads=2)
    model = Backbone(config)
    example = jnp.zeros((1, 4), jnp.int32), jnp.array([4], jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), *example)["params"]
    settings = toy.rollout_settings(max_steps=4, gen_len=gen_len, mask_id=config.spec.mask_id)
    sampler = parse_member("klass", SAMPLERS, "x")
    prompts = jax.eval_shape(lambda: toy.prompts(rows, width=64))

    def program(variables, prompts):
        draw = sampler.draw(DrawSettings("argmax", 1.0))
        ends = jnp.zeros(config.vocab_size, bool)
        denoise = backbone_denoiser(model, variables, settings, draw, ends)
        return sample(denoise, prompts, settings, sampler, ends)

    text = jax.jit(program).lower({"params": params}, prompts).compile().as_text()
    sizes = {
        math.prod(int(n) for n in shape.split(","))
        for shape in re.findall(r"\w\d+\[([\d,]+)\]", text)
    }
    # The logits of the rows that are worked on at a time, not those of all.
    assert max(sizes) < rows * gen_len * config.vocab_size / 4
