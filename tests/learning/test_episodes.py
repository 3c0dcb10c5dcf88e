"""What is made of a rollout on the host: text, returns, the critic's explained variance."""

from types import SimpleNamespace

import numpy as np
import pytest
from support import toy

from reoac_jax.config import load_config
from reoac_jax.learning.episodes import (
    episode_returns,
    explained_variance,
    replay_episodes,
    rewards_for_passes,
    rollout_summary,
)
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.policy.observation import Observation
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


def test_a_right_answer_is_worth_more_in_fewer_passes_and_a_wrong_one_nothing():
    steps = SimpleNamespace(forward_passes=np.array([[1, 0], [2, 3], [9, 4], [1, 0]]))
    rewards = np.array([1.0, 1.0, 0.5, 0.0], np.float32)
    halved = rewards_for_passes(rewards, steps, 10, 2.0)
    # Passes beyond the ten tokens count as ten.
    np.testing.assert_allclose(halved, [1.0, 0.6**2, 0.5 * 0.1**2, 0.0], rtol=1e-6)
    assert halved.dtype == np.float32
    np.testing.assert_array_equal(rewards_for_passes(rewards, steps, 10, 0.0), rewards)


def steps_with(q, operator, active):
    return SimpleNamespace(q=np.array(q), operator=np.array(operator), active=np.array(active))


def test_operators_are_counted_by_step_and_in_all():
    steps = SimpleNamespace(
        operator=np.array([[1, 0, 0], [1, 2, 0]]),
        active=np.array([[True, True, False], [True, True, True]]),
        cost=np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]]),
        forward_passes=np.array([[1, 1, 0], [1, 3, 1]]),
    )
    summary = rollout_summary(SimpleNamespace(steps=steps), toy.ORIGINAL)
    assert (summary["cost"], summary["steps"], summary["forward_passes"]) == (3.0, 2.5, 3.5)
    by_step = summary["operators_by_step"]
    assert list(by_step) == list(toy.ORIGINAL)
    assert list(by_step.values()) == [[0, 1, 1], [2, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert list(summary["operator_shares"].values()) == [0.4, 0.4, 0.2, 0.0, 0.0]


def test_explained_variance():
    operator, active = [[1, 0], [0, 1]], [[True, False], [True, True]]
    rewards = np.array([1.0, 0.0], np.float32)

    def explained(q, rewards=rewards, costs=(0.0, 0.0, 0.0)):
        steps = steps_with(q, operator, active)
        steps.cost = np.array([[costs[0], 0.0], costs[1:]], np.float32)
        return explained_variance(rewards, steps, 0.5).overall

    perfect = [[[9.0, 1.0], [9.0, 9.0]], [[0.0, 9.0], [9.0, 0.0]]]
    assert explained(perfect) == 1.0
    # Active steps want 1, 0, 0: variance 2/9; a constant 1/3 is their mean.
    assert explained(np.full((2, 2, 2), 1 / 3)) == pytest.approx(0, abs=1e-6)
    zero = np.zeros((2, 2, 2))
    assert explained(zero) == pytest.approx(-0.5, abs=1e-6)
    assert explained(zero, rewards=np.zeros(2, np.float32)) == 0.0
    # Charged, they want 1 - 0.5 * 2, then -0.5 * (4 + 1), -0.5 * 1.
    charged = [[[9.0, 0.0], [9.0, 9.0]], [[-2.5, 9.0], [9.0, -0.5]]]
    assert explained(charged, costs=(2.0, 4.0, 1.0)) == 1.0


def test_returns_that_differ_by_rounding_alone_do_not_vary():
    rewards = np.array([1.0, 1.0 + 1e-7], np.float32)
    steps = steps_with(np.full((2, 1, 2), 7.0), [[0], [0]], [[True], [True]])
    steps.cost = np.zeros((2, 1), np.float32)
    assert rewards.var() > 0
    assert explained_variance(rewards, steps, 0.5) == (0.0, [0.0])


def test_explained_variance_of_a_step_is_over_its_own_episodes():
    """Of the first step 1 and 0 are wanted: variance 1/4, and 0.5 is their mean. One episode alone
    takes the second: nothing varies there."""
    operator, active = [[1, 0, 0], [0, 1, 0]], [[True, False, False], [True, True, False]]
    q = np.zeros((2, 3, 2))
    q[0, 0], q[1, 0], q[1, 1] = (9.0, 0.75), (0.25, 9.0), 7.0
    steps = steps_with(q, operator, active)
    steps.cost = np.zeros((2, 3), np.float32)
    found = explained_variance(np.array([1.0, 0.0], np.float32), steps, 0.5)
    assert found.by_step == pytest.approx([1 - 0.25**2 / 0.25, 0.0, 0.0])
    for step in (0, 1):
        q[..., step, :] = 0.5
    steps = steps_with(q, operator, active)
    steps.cost = np.zeros((2, 3), np.float32)
    assert explained_variance(np.array([1.0, 0.0], np.float32), steps, 0.5).by_step[0] == 0.0


# ---- What the updates get of a rollout, against plain loops

E, T, G, P = 7, 4, 6, 5
INDICES = [2, 0, 2, 1, 0, 2, 0]  # problems of the episodes


def fake_rollout(rng):
    """Random episodes of 1 to T steps."""
    counts = np.array([4, 1, 3, 4, 2, 4, 3])
    active = np.arange(T) < counts[:, None]
    logits = rng.standard_normal((E, T, 5)).astype(np.float32)
    legal = rng.random((E, T, 5)) < 0.6
    chosen = rng.integers(0, 5, (E, T))
    np.put_along_axis(legal, chosen[..., None], True, axis=-1)
    fields = dict(
        active=active,
        observation=Observation(rng.standard_normal((E, T, 3)).astype(np.float32)),
        tokens=rng.integers(0, 9, (E, T, G)),
        written=rng.random((E, T, G)) < 0.5,
        log_prob=-rng.random((E, T, G)).astype(np.float32),
        logits=logits,
        q=rng.standard_normal((E, T, 5)).astype(np.float32),
        legal=legal,
        chosen=chosen,
        decided=rng.random((E, T)) < 0.7,
        operator=rng.integers(0, 5, (E, T)),
        cost=(rng.random((E, T)) * active).astype(np.float32),
    )
    return SimpleNamespace(steps=SimpleNamespace(**fields), tokens=rng.integers(0, 9, (E, G)))


COST_LAMBDA = 0.4


def plain_advantages(kind, rollout, rewards, decay):
    """The definitions of DESIGN.md, section 10, an episode and a step at a time."""
    steps = rollout.steps
    charges = COST_LAMBDA * steps.cost.astype(np.float64)
    returns = rewards - charges.sum(axis=1)
    if kind == "group":
        centred = []
        for episode, index in enumerate(INDICES):
            others = [returns[i] for i, other in enumerate(INDICES) if other == index]
            centred.append(returns[episode] - np.mean(others))
        scale = np.sqrt(np.mean(np.square(centred)))
        return np.repeat(np.array(centred)[:, None] / scale, T, axis=1)
    advantages = np.zeros((E, T))
    for episode in range(E):
        count = int(steps.active[episode].sum())
        values = []
        for t in range(count):
            policy = np.exp(steps.logits[episode, t].astype(np.float64)) * steps.legal[episode, t]
            policy /= policy.sum()
            values.append(float(policy @ steps.q[episode, t]))
        following = 0.0
        for t in reversed(range(count)):
            later = values[t + 1] if t + 1 < count else rewards[episode]
            following = later - charges[episode, t] - values[t] + decay * following
            advantages[episode, t] = following
    scale = np.sqrt((advantages**2).sum() / steps.active.sum())
    return advantages / scale


@pytest.mark.parametrize("kind", ["group", "critic"])
@pytest.mark.parametrize("backbone", ["reference", "generated"])
def test_replay_episodes_against_plain_loops(configs, kind, backbone):
    config = load_config(
        configs / "tiny.py",
        [f"--config.objective.advantage={kind}", f"--config.objective.backbone={backbone}",
         "--config.objective.advantage_decay=0.7", f"--config.rollout.max_prompt_len={P}",
         f"--config.reward.cost_lambda={COST_LAMBDA}"],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rollout = fake_rollout(rng)
    prompts = [np.array([3, 4]), np.array([5, 6, 7, 8, 1]), np.array([2])]
    references = rng.integers(0, 9, (3, G))
    encoded = SimpleNamespace(prompt_tokens=prompts, reference=references)
    rewards = rng.standard_normal(E).astype(np.float32)
    got = replay_episodes(
        rollout, SimpleNamespace(encoded=encoded), INDICES, rewards, config,
        LearnerSettings.from_config(config),
    )  # fmt: skip

    wanted = plain_advantages(kind, rollout, rewards.astype(np.float64), 0.7)
    active = rollout.steps.active
    np.testing.assert_allclose(got.actor_advantage[active], wanted[active], rtol=1e-4, atol=1e-5)
    if backbone == "reference":
        returns = rewards - COST_LAMBDA * rollout.steps.cost.sum(axis=1)
        wanted = np.repeat(returns[:, None], T, axis=1)
    else:
        wanted = plain_advantages("group", rollout, rewards.astype(np.float64), 0.7)
    np.testing.assert_allclose(got.backbone_advantage, wanted, rtol=1e-4, atol=1e-5)
    for episode in range(E):
        for t in range(T):
            ahead = COST_LAMBDA * rollout.steps.cost[episode, t:].sum()
            wanted = rewards[episode] - ahead
            assert got.returns_to_go[episode, t] == pytest.approx(wanted, abs=1e-5)
    np.testing.assert_array_equal(got.final, rollout.tokens)
    for episode, index in enumerate(INDICES):
        length = len(prompts[index])
        assert got.prompt_length[episode] == length
        np.testing.assert_array_equal(got.prompt[episode, :length], prompts[index])
        assert not got.prompt[episode, length:].any() and got.prompt.shape[1] == P
        np.testing.assert_array_equal(got.reference[episode], references[index])
        for t in range(T):
            logits = rollout.steps.logits[episode, t].astype(np.float64)
            among = np.exp(logits)[rollout.steps.legal[episode, t]].sum()
            log_prob = logits[rollout.steps.chosen[episode, t]] - np.log(among)
            assert got.log_prob[episode, t] == pytest.approx(log_prob, abs=1e-5)
    np.testing.assert_array_equal(got.token_log_prob, rollout.steps.log_prob)
    assert got.observation is rollout.steps.observation
    for name in ("active", "operator", "chosen", "legal", "decided", "tokens", "written"):
        np.testing.assert_array_equal(getattr(got, name), getattr(rollout.steps, name))
