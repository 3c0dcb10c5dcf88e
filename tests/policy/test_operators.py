"""What the operators select and cost, against plain Python and exact fractions."""

import dataclasses
import functools
import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from support import toy

from reoac_jax.config import load_config
from reoac_jax.policy.operators import OPERATOR_TYPES, View, make_operators, select_positions
from reoac_jax.system.errors import InputError


@functools.partial(jax.jit, static_argnums=(4, 5))
def select(written, masked, confidence, vocabulary, operators, anchor):
    def row(*seen):
        return select_positions(View(*seen, vocabulary, anchor), operators)

    return jax.vmap(row)(written, masked, confidence)


def plain_selection(operator, tokens, masked, confidence, anchor):
    """A set of positions, from the words themselves (DESIGN.md, section 7)."""
    size = len(tokens)
    special = {toy.EOS_ID, 1, toy.MASK_ID}
    words = ["" if t in special else toy.WORDS[t] for t in tokens]
    match operator.name:
        case "O_NUM":
            digits = [i for i in range(size) if any(c.isdigit() for c in words[i])]
            return set(digits[::-1][: operator.max_tokens])
        case "O_OP":
            signs = [i for i in range(size) if any(c in "+-*/=<>&^_" for c in words[i])]
            return set(signs[::-1][: operator.max_tokens])
        case "O_CONFIDENT":
            frontier = [i for i in range(size) if masked[i]]
            best = sorted(frontier, key=lambda i: (-confidence[i], i))
            return set(best[: operator.max_tokens])
        case "O_SHARE":
            frontier = [i for i in range(size) if masked[i]]
            length = tokens.index(toy.EOS_ID) if toy.EOS_ID in tokens else size
            count = max(math.ceil(Fraction(str(operator.share)) * length), 1)
            rest = sum(i < length for i in frontier) <= count
            return set(frontier if rest else frontier[:count])
        case "O_SCOPE" | "O_BRANCH" | "O_FAST" | "O_NEXT":
            window = 1 if operator.name == "O_NEXT" else operator.scope_len
            start = max(size - window, 0)
            if anchor == "frontier" and any(masked):
                start = masked.index(True)
            return {i for i in range(start, start + window) if i < size}
    raise AssertionError(f"say here what {operator.name} selects")


@pytest.mark.parametrize("anchor", ["frontier", "end"])
@pytest.mark.parametrize("sizes", [(2, 3, 3, 4, 5), (1, 16, 10, 11, 64)])
def test_selection_equals_plain_python(anchor, sizes):
    """Of every operator that there is."""
    few, many, *windows = sizes
    windows = {"O_SCOPE": windows[0], "O_BRANCH": windows[1], "O_FAST": windows[2]}
    changes = {"O_NUM": {"max_tokens": few}, "O_OP": {"max_tokens": many}}
    changes["O_CONFIDENT"] = {"max_tokens": few}
    changes["O_SHARE"] = {"share": few / 10}
    changes |= {name: {"scope_len": size} for name, size in windows.items()}
    operators = toy.operators(tuple(OPERATOR_TYPES), **changes)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, toy.VOCAB_SIZE, (300, 10)).astype(np.int32)
    masked = rng.random((300, 10)) < rng.choice([0.0, 0.1, 0.5, 1.0], (300, 1))
    confidence = rng.choice([0.1, 0.5, 0.9], (300, 10)).astype(np.float32)
    vocabulary = toy.vocabulary()
    got = np.asarray(select(tokens, masked, confidence, vocabulary, operators, anchor))
    assert got.shape == (300, len(operators), 10) and got.dtype == bool
    for row in range(300):
        for operator, line in zip(operators, got[row], strict=True):
            seen = tokens[row].tolist(), masked[row].tolist(), confidence[row].tolist(), anchor
            assert set(np.flatnonzero(line)) == plain_selection(operator, *seen), operator


@pytest.mark.parametrize("scale", ["1.5", "0.7", "2.0", "1.1"])
def test_quotas_are_exact(scale):
    fast = toy.rollout_settings(operators=toy.operators(O_FAST={"step_scale": float(scale)}))
    for gen_len in (1, 7, 24, 64, 100, 256):
        for steps in range(1, 130):
            settings = dataclasses.replace(fast, gen_len=gen_len, max_steps=steps)
            share = Fraction(gen_len, steps)
            scaled = min(math.ceil(Fraction(scale) * share), gen_len)
            assert settings.quotas.tolist() == [math.ceil(share)] * 4 + [scaled]
            assert settings.quotas.dtype == np.int32


def test_settings_follow_the_configuration(configs):
    changes = ["O_BRANCH.branch_depth=4", "O_FAST.extra_cost=0.25", "O_NUM.cost=7", "O_FAST.cost=3"]
    overrides = [f"--config.operators.{change}" for change in changes]
    overrides += ["--config.operators.O_OP.max_tokens=3"]
    operators = make_operators(load_config(configs / "gsm8k_original.py", overrides))
    assert [operator.charge for operator in operators] == [7.0, 1.1, 1.0, 6.0, 3.25]
    assert operators[1].max_tokens == 3 and operators[2].scope_len == 32
    assert [operator.branches for operator in operators] == [False] * 3 + [True, False]


def test_the_configuration_says_which_operators_there_are(configs):
    names = ["--config.operators.names=O_FAST,O_SCOPE"]
    operators = make_operators(load_config(configs / "tiny.py", names))
    assert [operator.name for operator in operators] == ["O_FAST", "O_SCOPE"]


def test_parameters_of_operators_that_are_not_listed_are_left_out(configs):
    """A file may set them, so that a command line can choose from fewer."""
    config = load_config(configs / "tiny.py", ["--config.operators.names=O_NUM,O_SCOPE"])
    assert set(config.operators) == {"names", "O_NUM", "O_SCOPE"}
    assert config.operators.O_SCOPE.scope_len == 6


def test_an_operator_checks_its_parameters():
    with pytest.raises(InputError, match="O_NUM: max_tokens is 0; expected an integer from 1"):
        toy.operators(("O_NUM",), O_NUM={"max_tokens": 0})
    assert hash(toy.operators()) == hash(toy.operators())  # a static argument of jit


def test_thresholds_bold_and_careful_and_none_in_the_original(configs):
    fast, confident, scope = (
        OPERATOR_TYPES[name]().threshold for name in ("O_FAST", "O_CONFIDENT", "O_SCOPE")
    )
    assert fast < confident < scope < 1.0
    for name in ("gsm8k_original", "tiny"):
        config = load_config(configs / f"{name}.py")
        assert config.operators.names == toy.ORIGINAL
        assert {operator.threshold for operator in make_operators(config)} == {1.0}
        assert config.rollout.empty_operator == "fallback"
    assert config.rollout.branch_k == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["operators.names=()"], "expected one operator or more, each once"),
        (["operators.names=O_NUM,O_NUM"], "expected one operator or more, each once"),
        (["operators.names=O_SCOPE,O_CONFIDNT"], "(did you mean 'O_CONFIDENT'?)"),
        (["operators.names=O_NUM,O_OP"], "fallback_operator is 'O_SCOPE'; expected one of O_NUM"),
        (["rollout.fallback_operator=O_BRANCH"], "expected one of O_NUM, O_OP, O_SCOPE, O_FAST"),
        (["operators.names=O_SCOPE,O_BRANCH", "rollout.branch_k=2"], "expected at most 1"),
        (["operators.O_NEXT.cost=2"], "'operators.O_NEXT.cost' is unknown"),
        (["operators.O_FAST.threshold=1.5"], "expected a number from 0.0 to 1.0"),
        (["rollout.empty_operator=ignore"], "expected one of mask, fallback"),
    ],
)
def test_lists_of_operators_that_are_refused(configs, overrides, message):
    with pytest.raises(InputError) as caught:
        load_config(configs / "tiny.py", [f"--config.{text}" for text in overrides])
    assert message in str(caught.value) and "\n" not in str(caught.value)
