"""What is made of a rollout on the host: text, returns, the critic's explained variance."""

from types import SimpleNamespace

import numpy as np
import pytest
from support import toy

from reoac_jax.learning.episodes import episode_returns, explained_variance, rollout_summary
from reoac_jax.policy.operators import OPERATORS
from reoac_jax.policy.vocabulary import build_vocabulary
from reoac_jax.tasks import Problem
from reoac_jax.tasks.decode import generated_text, token_texts
from reoac_jax.tasks.problem_set import ProblemSet


def test_text_ends_before_the_first_eos_and_leaves_special_tokens_out():
    tokenizer = toy.tokenizer()
    special = build_vocabulary(tokenizer, toy.VOCAB_SIZE, toy.MASK_ID).is_special
    ids = [toy.WORDS.index(word) for word in ("3", "+", "12")]
    tokens = np.array([ids[0], toy.MASK_ID, ids[1], ids[2], toy.EOS_ID, ids[0]])
    assert generated_text(tokens, tokenizer, special) == "3 + 12"
    assert generated_text(np.array([toy.EOS_ID, ids[0]]), tokenizer, special) == ""
    assert token_texts(tokens, tokenizer) == ["3", "[MASK]", "+", "12", "<eos>", "3"]


def test_the_hash_of_a_problem_set_is_of_what_is_asked_and_graded():
    def hashed(prompt="1 + 1", answer="2", tokens=(3, 9, 3)):
        problems = [Problem("a/0", prompt, answer, "a", {})]
        return ProblemSet(problems, ["2"], SimpleNamespace(prompt_tokens=[np.array(tokens)])).hash

    assert hashed() == hashed()
    others = [hashed(prompt="1 + 2"), hashed(answer="3"), hashed(tokens=(3, 9))]
    assert len({hashed(), *others}) == 4


def test_returns():
    steps = SimpleNamespace(cost=np.array([[1.0, 2.0], [0.5, 0.0]], np.float32))
    returns = episode_returns(np.array([1.0, 0.0], np.float32), steps, 0.1)
    np.testing.assert_allclose(returns, [0.7, -0.05], rtol=1e-6)
    assert returns.dtype == np.float32


def steps_with(q, operator, active):
    return SimpleNamespace(q=np.array(q), operator=np.array(operator), active=np.array(active))


def test_operators_are_counted_by_step_and_in_all():
    steps = SimpleNamespace(
        operator=np.array([[1, 0, 0], [1, 2, 0]]),
        active=np.array([[True, True, False], [True, True, True]]),
        cost=np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]]),
        forward_passes=np.array([[1, 1, 0], [1, 3, 1]]),
    )
    summary = rollout_summary(SimpleNamespace(steps=steps))
    assert (summary["cost"], summary["steps"], summary["forward_passes"]) == (3.0, 2.5, 3.5)
    by_step = summary["operators_by_step"]
    assert list(by_step) == list(OPERATORS)
    assert list(by_step.values()) == [[0, 1, 1], [2, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert list(summary["operator_shares"].values()) == [0.4, 0.4, 0.2, 0.0, 0.0]


def test_explained_variance():
    operator, active = [[1, 0], [0, 1]], [[True, False], [True, True]]
    returns = np.array([1.0, 0.0], np.float32)
    perfect = [[[9.0, 1.0], [9.0, 9.0]], [[0.0, 9.0], [9.0, 0.0]]]
    assert explained_variance(steps_with(perfect, operator, active), returns) == 1.0
    # Active steps want 1, 0, 0: variance 2/9; a constant 1/3 is their mean.
    mean = np.full((2, 2, 2), 1 / 3)
    assert explained_variance(steps_with(mean, operator, active), returns) == pytest.approx(
        0, abs=1e-6
    )
    zero = np.zeros((2, 2, 2))
    assert explained_variance(steps_with(zero, operator, active), returns) == pytest.approx(
        -0.5, abs=1e-6
    )
    same = np.zeros(2, np.float32)
    assert explained_variance(steps_with(zero, operator, active), same) == 0.0
