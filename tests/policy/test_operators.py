"""What the operators select and cost, against plain Python and exact fractions."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy

from reoac_jax.config import load_config
from reoac_jax.policy.operators import OPERATORS, OperatorSettings, select_positions
from reoac_jax.policy.vocabulary import build_vocabulary


@functools.partial(jax.jit, static_argnums=3)
def select(written, masked, vocabulary, settings):
    return jax.vmap(lambda w, m: select_positions(w, m, vocabulary, settings))(written, masked)


def plain_selection(tokens, masked, settings):
    """The five sets of positions, from the words themselves (DESIGN.md, section 7)."""
    size = len(tokens)
    special = {toy.EOS_ID, 1, toy.MASK_ID}
    words = ["" if t in special else toy.WORDS[t] for t in tokens]
    digits = [i for i in range(size) if any(c.isdigit() for c in words[i])]
    signs = [i for i in range(size) if any(c in "+-*/=<>&^_" for c in words[i])]
    sets = [
        set(digits[::-1][: settings.num_max_tokens]),
        set(signs[::-1][: settings.op_max_tokens]),
    ]
    for window in (settings.scope_len, settings.branch_scope_len, settings.fast_scope_len):
        start = max(size - window, 0)
        if settings.scope_anchor == "frontier" and any(masked):
            start = masked.index(True)
        sets.append({i for i in range(start, start + window) if i < size})
    return sets


@pytest.mark.parametrize("anchor", ["frontier", "end"])
@pytest.mark.parametrize("lengths", [(2, 3, 3, 4, 5), (1, 16, 10, 11, 64)])
def test_selection_equals_plain_python(anchor, lengths):
    names = ("num_max_tokens", "op_max_tokens", "scope_len", "branch_scope_len", "fast_scope_len")
    limits = dict(zip(names, lengths, strict=True))
    settings = toy.operator_settings(scope_anchor=anchor, **limits)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, toy.VOCAB_SIZE, (300, 10)).astype(np.int32)
    masked = rng.random((300, 10)) < rng.choice([0.0, 0.1, 0.5, 1.0], (300, 1))
    vocabulary = jax.tree.map(
        jnp.asarray, build_vocabulary(toy.tokenizer(), toy.VOCAB_SIZE, toy.MASK_ID)
    )
    got = np.asarray(select(tokens, masked, vocabulary, settings))
    assert got.shape == (300, len(OPERATORS), 10) and got.dtype == bool
    for row in range(300):
        expected = plain_selection(tokens[row].tolist(), masked[row].tolist(), settings)
        assert [set(np.flatnonzero(line)) for line in got[row]] == expected


@pytest.mark.parametrize("scale", ["1.5", "0.7", "2.0", "1.1"])
def test_quotas_are_exact(scale):
    settings = toy.operator_settings(step_scales=(1.0, 1.0, 1.0, 1.0, float(scale)))
    for gen_len in (1, 7, 24, 64, 100, 256):
        for steps in range(1, 130):
            quotas = settings.quotas(gen_len / steps, gen_len)
            share = Fraction(gen_len, steps)
            fast = min(math.ceil(Fraction(scale) * share), gen_len)
            assert quotas.tolist() == [math.ceil(share)] * 4 + [fast]
            assert quotas.dtype == np.int32


def test_settings_of_the_published_configuration(configs):
    config = load_config(configs / "gsm8k.py")
    assert OperatorSettings.from_config(config) == OperatorSettings(
        num_max_tokens=16,
        op_max_tokens=16,
        scope_len=32,
        branch_scope_len=32,
        fast_scope_len=64,
        scope_anchor="frontier",
        costs=(1.2, 1.1, 1.0, 3.0, 2.0),
        step_scales=(1.0, 1.0, 1.0, 1.0, 1.5),
    )


def test_settings_follow_the_configuration(configs):
    changes = ["O_BRANCH.branch_depth=4", "O_FAST.extra_cost=0.25", "O_NUM.cost=7", "O_FAST.cost=3"]
    overrides = [f"--config.operators.{change}" for change in changes]
    overrides += ["--config.rollout.scope_anchor=end", "--config.operators.O_OP.max_tokens=3"]
    settings = OperatorSettings.from_config(load_config(configs / "gsm8k.py", overrides))
    assert settings.costs == (7.0, 1.1, 1.0, 6.0, 3.25)
    assert (settings.scope_anchor, settings.op_max_tokens) == ("end", 3)
