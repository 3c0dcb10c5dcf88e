"""Keys and values kept before a block, against a plain decoder that computes one row at a time."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy

from reoac_jax.backbone.architectures import build
from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.backbone.kept import window_widths
from reoac_jax.backbone.published import to_flax
from reoac_jax.backbone.pytorch_files import find_source, open_source
from reoac_jax.config.parameters import parse_member
from reoac_jax.rollout import Prompts, backbone_denoiser
from reoac_jax.rollout.loop import KeepingBackbone
from reoac_jax.samplers import SAMPLERS, sample

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ROWS, PROMPT, SIZE = 4, 6, 8
RULE = "threshold:threshold=0.9,block_len={}"


@functools.cache
def world(name):
    """Model and parameters of a golden checkpoint, the latter as NumPy float64 too."""
    config, tensors, _ = open_source(find_source(str(GOLDEN / name)))
    params = to_flax(config, tensors, np.dtype(np.float32))
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    return build(config, dtype=jnp.float32), params, wide


def rows(mask_id):
    rng = np.random.default_rng(0)
    lengths = np.array([6, 3, 1, 5], np.int32)
    tokens = rng.integers(3, mask_id - 4, (ROWS, PROMPT)).astype(np.int32)
    keys = jax.vmap(jax.random.key)(jnp.arange(ROWS))
    return Prompts(tokens, lengths, np.zeros((ROWS, PROMPT), bool), keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def sampled(name, rule, keeps, slots, params, prompts):
    """Results, and the passes that were made, by kind."""
    model, _, _ = world(name)
    sampler = parse_member(rule, SAMPLERS, "x")
    settings = toy.rollout_settings(
        max_steps=SIZE, gen_len=SIZE, mask_id=model.spec.mask_id, pad_id=2,
        windows=window_widths(SIZE, sampler.block_len) if keeps else (),
    )  # fmt: skip
    draw, ends = DrawSettings("argmax", 1.0), jnp.zeros(model.spec.vocab_size, bool)
    kind = KeepingBackbone if keeps else backbone_denoiser
    denoise = kind(model, {"params": params}, settings, draw, ends)
    return sample(denoise, prompts, settings, sampler, ends, slots)


# ---- The plain decoder


def normed(x, scale, epsilon):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * scale


def turned(x, positions, base):
    """The rotary embedding of `[n, heads, width]`."""
    half = x.shape[-1] // 2
    angle = positions[:, None, None] * base ** -(np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle),
         second * np.cos(angle) + first * np.sin(angle)], axis=-1,
    )  # fmt: skip


def plain_pass(name, row, begin=0, kept=None):
    """Logits of the positions from `begin` on, and the keys and values of each block.

    kept: those of an earlier pass, of which the ones before `begin` are read.
    """
    model, _, params = world(name)
    config = model.config
    positions = np.arange(begin, len(row))
    x = params["embed"]["embedding"][row[begin:]]
    made = []
    for number in range(config.n_blocks):
        block = params[f"blocks_{number}"]

        def linear(h, layer, block=block):
            return h @ block[layer]["kernel"] + block[layer].get("bias", 0.0)

        h = normed(x, block["attn_norm"]["scale"], config.norm_eps)
        query, key, value = (
            linear(h, layer).reshape(len(positions), -1, config.head_dim)
            for layer in ("q_proj", "k_proj", "v_proj")
        )
        if config.head_norms:
            query = normed(query, block["q_norm"]["scale"], config.norm_eps)
            key = normed(key, block["k_norm"]["scale"], config.norm_eps)
        query, key = (turned(part, positions, config.rope_theta) for part in (query, key))
        if kept is not None:
            before, values_before = kept[number]
            key = np.concatenate([before[:begin], key])
            value = np.concatenate([values_before[:begin], value])
        made.append((key, value))
        mixed = np.zeros_like(query)
        for head in range(config.n_heads):
            shared = head // (config.n_heads // config.n_kv_heads)
            scores = query[:, head] @ key[:, shared].T / config.head_dim**0.5
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            mixed[:, head] = weights / weights.sum(axis=-1, keepdims=True) @ value[:, shared]
        x = x + linear(mixed.reshape(len(positions), -1), "attn_out")
        h = normed(x, block["mlp_norm"]["scale"], config.norm_eps)
        gate = linear(h, "mlp_gate")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, "mlp_up"), "mlp_down")
    normed_x = normed(x, params["final_norm"]["scale"], config.norm_eps)
    head = params["embed"]["embedding"].T if config.tied else params["lm_head"]["kernel"]
    return normed_x @ head, made


def plain_row(name, prompt, block_len, keeps):
    """One row written by `RULE`, and the tokens that each of its passes computed."""
    model, _, _ = world(name)
    spec, computed = model.spec, []
    row = np.array([*prompt, *[spec.mask_id] * SIZE])
    for start in range(len(prompt), len(row), block_len):
        kept = None
        while masked := [i for i in range(start, start + block_len) if row[i] == spec.mask_id]:
            begin = 0 if kept is None else max(start - spec.reads_left, 0)
            logits, made = plain_pass(name, row, begin, kept)
            if keeps and kept is None:
                kept = made
            computed.append(len(row) - begin)
            p = {}
            for i in masked:
                at = max(i - spec.reads_left, 0) - begin
                own = np.where(np.asarray(spec.drawable()), logits[at], -np.inf)
                p[i] = np.exp(own - own.max()) / np.exp(own - own.max()).sum()
            sure = [i for i in masked if p[i].max() > 0.9]
            for i in {*sure, max(masked, key=lambda i: p[i].max())}:
                row[i] = p[i].argmax()
    return row[len(prompt) :].tolist(), computed


# ---- Tests


CASES = [("qwen3_small", 4), ("dream_small", 4), ("llada_small", SIZE)]


@pytest.mark.parametrize(("name", "block_len"), CASES)
def test_equals_a_plain_decoder_with_frozen_keys(name, block_len):
    """Also where rows wait for others that begin a block: in two slots as in four."""
    model, params, _ = world(name)
    prompts = rows(model.spec.mask_id)
    rule = RULE.format(block_len)
    found, passes = sampled(name, rule, True, ROWS, params, prompts)
    two, _ = sampled(name, rule, True, 2, params, prompts)
    jax.tree.map(np.testing.assert_array_equal, found, two)
    whole = narrow = 0
    for row, (prompt, length) in enumerate(zip(prompts.tokens, prompts.lengths, strict=True)):
        expected, computed = plain_row(name, prompt[:length], block_len, keeps=True)
        assert found.tokens[row].tolist() == expected
        assert found.forward_passes[row] == len(computed)
        whole += sum(count == length + SIZE for count in computed)
        narrow += sum(count < length + SIZE for count in computed)
    assert narrow > whole >= ROWS
    # Whole passes, then those over each width.
    assert len(passes) == 1 + len(window_widths(SIZE, block_len))
    assert passes[0] <= whole and sum(passes[1:]) <= narrow


def test_without_keeping_every_pass_is_exact():
    """And is another distribution: what `prefix` leaves out can be seen."""
    name = "qwen3_small"
    model, params, _ = world(name)
    prompts = rows(model.spec.mask_id)
    found, passes = sampled(name, RULE.format(4), False, ROWS, params, prompts)
    assert passes.shape == ()
    for row, (prompt, length) in enumerate(zip(prompts.tokens, prompts.lengths, strict=True)):
        expected, computed = plain_row(name, prompt[:length], 4, keeps=False)
        assert found.tokens[row].tolist() == expected
        assert set(computed) == {length + SIZE}
    row = np.array([*prompts.tokens[0], *[model.spec.mask_id] * SIZE])
    _, kept = plain_pass(name, row)
    row[PROMPT] = 5
    exact, _ = plain_pass(name, row)
    frozen, _ = plain_pass(name, row, PROMPT, kept)
    assert 1e-3 < np.abs(exact[PROMPT:] - frozen).max()
