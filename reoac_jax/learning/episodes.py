"""From rollouts to graded episodes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.learning.advantages import GradedEpisodes, estimator
from reoac_jax.learning.replay import Episodes
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.policy.distributions import DISTRIBUTIONS, AnyPositions, Distribution, OneOperator
from reoac_jax.policy.observation import named_features
from reoac_jax.rollout import Rollout, Trajectory
from reoac_jax.tasks import Grade
from reoac_jax.tasks.decode import token_texts
from reoac_jax.tasks.problem_set import ProblemSet
from reoac_jax.tasks.tokenizer import Tokenizer


def rewards_for_passes(
    rewards: np.ndarray, steps: Trajectory[np.ndarray], gen_len: int, exponent: float
) -> np.ndarray:
    """reward * ((G - min(n, G) + 1) / G) ** exponent, n forward passes, float32 `[E]`.

    (Jazbec et al. 2025, arXiv 2512.09106: a charge that is subtracted can be earned by being quick
    and wrong; a factor is worth nothing without a right answer.) `steps` `[E, T, ...]`.
    """
    passes = np.minimum(steps.forward_passes.sum(axis=1), gen_len)
    return (rewards * ((gen_len - passes + 1) / gen_len) ** exponent).astype(np.float32)


def episode_returns(
    rewards: np.ndarray, steps: Trajectory[np.ndarray], cost_lambda: float
) -> np.ndarray:
    """G = reward - cost_lambda * sum of costs, float32 `[E]`; `steps` `[E, T, ...]`."""
    return (rewards - cost_lambda * steps.cost.sum(axis=1)).astype(np.float32)


def replay_episodes(
    rollout: Rollout[np.ndarray],
    problem_set: ProblemSet,
    indices: Sequence[int],
    rewards: np.ndarray,
    config: ConfigDict,
    settings: LearnerSettings,
) -> Episodes:
    """What the updates need of a graded rollout.

    Args:
      rollout: batch axis in front, `E` episodes. indices: int `[E]`, problem of each; episodes of
        the same problem are compared with each other. rewards: float32 `[E]`.
      config: for the prompts' length, the weight of the costs and the estimator of advantages.
      settings: for the two objectives, which make their advantages with it.
    """
    steps = rollout.steps
    prompts = [problem_set.encoded.prompt_tokens[i] for i in indices]
    padded = np.zeros((len(prompts), config.rollout.max_prompt_len), np.int32)
    for row, prompt in zip(padded, prompts, strict=True):
        row[: len(prompt)] = prompt
    _, groups = np.unique(indices, return_inverse=True)
    logits, legal = jnp.asarray(steps.logits), jnp.asarray(steps.legal)
    policy = DISTRIBUTIONS[config.heads.policy](logits, legal)
    graded = GradedEpisodes(
        rewards=rewards,
        charges=config.reward.cost_lambda * steps.cost,
        groups=groups.astype(np.int32),
        values=_values(policy, steps.q, steps.active),
        active=steps.active,
    )
    estimate = estimator(config.objective)
    unknown = np.zeros(steps.written.shape, np.float32)
    return Episodes(
        prompt=padded,
        prompt_length=np.array([len(prompt) for prompt in prompts], np.int32),
        reference=problem_set.encoded.reference[np.asarray(indices)],
        final=rollout.tokens,
        returns_to_go=graded.returns_to_go,
        actor_advantage=settings.actor.advantages(graded, estimate),
        backbone_advantage=settings.backbone.advantages(graded, estimate),
        active=steps.active,
        observation=steps.observation,
        operator=steps.operator,
        chosen=steps.chosen,
        decided=steps.decided,
        legal=steps.legal,
        log_prob=np.asarray(policy.log_prob(jnp.asarray(steps.chosen))),
        tokens=steps.tokens,
        written=steps.written,
        token_log_prob=unknown if steps.log_prob is None else steps.log_prob,
    )


def _values(policy: Distribution, q: np.ndarray | None, active: np.ndarray) -> np.ndarray:
    """float32 `[E, T]`: the critic's of the states, V(s) = sum_a pi(a|s) Q(s, a); 0 without one."""
    if q is None:
        return np.zeros(active.shape, np.float32)
    assert isinstance(policy, OneOperator)
    return np.asarray(policy.value(jnp.asarray(q)))


def rollout_summary(rollout: Rollout[np.ndarray], operators: Sequence[str]) -> dict[str, Any]:
    """Means over episodes of cost, steps and forward passes, and which operators acted.

    operators: their names, in order.
    `operator_shares`: share of all steps. `operators_by_step`: how often, at each of the T steps.
    Where positions were chosen neither, but `written_per_step`: positions that a step revealed.
    """
    steps = rollout.steps
    active = steps.active
    means = {
        "cost": float(steps.cost.sum(axis=1).mean()),
        "steps": float(active.sum(axis=1).mean()),
        "forward_passes": float(steps.forward_passes.sum(axis=1).mean()),
    }
    if steps.operator is None:
        return {**means, "written_per_step": float(steps.written[active].sum(axis=1).mean())}
    by_step = (steps.operator[..., None] == np.arange(len(operators))) & active[..., None]
    by_step = by_step.sum(axis=0)
    taken = by_step.sum(axis=0)
    return {
        **means,
        "operator_shares": {
            name: float(count / max(taken.sum(), 1))
            for name, count in zip(operators, taken, strict=True)
        },
        "operators_by_step": dict(zip(operators, by_step.T.tolist(), strict=True)),
    }


_ROUNDING = 1e-10  # a variance of float32 returns below which they differ by rounding alone


class ExplainedVariance(NamedTuple):
    """overall: of all active steps together. by_step: of each of the T steps, over its episodes."""

    overall: float
    by_step: list[float]


def explained_variance(
    rewards: np.ndarray, steps: Trajectory[np.ndarray], cost_lambda: float
) -> ExplainedVariance | None:
    """1 - mean (G_t - Q(s, a))^2 / var(G_t) over the active steps; 0 where G_t does not vary.

    G_t is the return to go: the reward less cost_lambda times the costs from step t on. Of the
    critic that acted, on episodes it has not learned from. 1 is perfect, 0 no better than the mean,
    and below that is worse. Of one step alone a critic that knows no more than the step explains
    nothing. None where there is no critic.

    Args:
      rewards: float32 `[E]`. steps: `[E, T, ...]`.
    """
    if steps.q is None or steps.operator is None:
        return None
    q: np.ndarray = np.take_along_axis(
        steps.q, steps.operator[..., None].astype(np.int64), axis=-1
    )[..., 0]
    ahead = np.cumsum(steps.cost[:, ::-1], axis=1)[:, ::-1]
    wanted = rewards[:, None] - cost_lambda * ahead

    def among(where: np.ndarray) -> float:
        variance = float(wanted[where].var()) if where.any() else 0.0
        if variance < _ROUNDING:
            return 0.0
        return 1.0 - float(np.square(wanted[where] - q[where]).mean()) / variance

    every = np.arange(steps.active.shape[1])
    return ExplainedVariance(
        among(steps.active), [among(steps.active & (every == step)) for step in every]
    )


def sample_record(
    rollout: Rollout[np.ndarray],
    episode: int,
    problem_set: ProblemSet,
    index: int,
    text: str,
    grade: Grade,
    episode_return: float,
    tokenizer: Tokenizer,
    operators: Sequence[str],
    relation: np.ndarray,
) -> Mapping[str, Any]:
    """One episode as JSON, for reading and for the report.

    Args:
      rollout: batch axis in front. episode: the row. index: its problem's place in `problem_set`.
      operators: their names, in order.
      relation: float32 `[P_i, G]`, of the prompt's and the final generated tokens.
    """
    steps = jax.tree.map(lambda x: x[episode], rollout.steps)
    count = int(steps.active.sum())
    problem = problem_set.problems[index]
    return {
        "id": problem.id,
        "prompt": problem.prompt,
        "prompt_tokens": token_texts(problem_set.encoded.prompt_tokens[index], tokenizer),
        "reference": problem_set.references[index],
        "text": text,
        "extracted": grade.extracted,
        "expected": grade.expected,
        "correct": grade.correct,
        "reward": grade.reward,
        "return": episode_return,
        "cost": float(steps.cost.sum()),
        "tokens": token_texts(rollout.tokens[episode], tokenizer),
        "steps": [_step_record(steps, t, tokenizer, operators) for t in range(count)],
        "relation": np.round(relation, 5).tolist(),
    }


def _step_record(
    steps: Any, t: int, tokenizer: Tokenizer, operators: Sequence[str]
) -> Mapping[str, Any]:
    record = {
        **_choice_record(steps, t, operators),
        "cost": float(steps.cost[t]),
        "features": {
            name: round(float(values[t]), 5)
            for name, values in named_features(steps.observation, operators).items()
        },
        "tokens": token_texts(steps.tokens[t], tokenizer),
        "confidence": np.round(steps.confidence[t], 5).tolist(),
        "written": np.flatnonzero(steps.written[t]).tolist(),
        "repaired": np.flatnonzero(steps.repaired[t]).tolist(),
    }
    if steps.branched[t]:
        record["candidates"] = [
            {"operator": operators[candidate], "value": float(value), "cost": float(cost)}
            for candidate, value, cost in zip(*(x[t] for x in steps.candidates), strict=True)
        ]
    return record


def _choice_record(steps: Any, t: int, operators: Sequence[str]) -> Mapping[str, Any]:
    """What the actor chose at a step, and from what.

    Of an operator the logits and Q of all; of positions those that were drawn, and the probability
    of each masked one.
    """
    if steps.operator is None:
        name, drawn = AnyPositions.name, np.flatnonzero(steps.chosen[t]).tolist()
        chance = np.where(steps.legal[t], 1.0 / (1.0 + np.exp(-steps.logits[t])), 0.0)
        return {
            "operator": name, "chosen": name, "executed": name, "logits": [], "q": [],
            "drawn": drawn, "probabilities": np.round(chance, 5).tolist(),
        }  # fmt: skip
    return {
        "operator": operators[steps.operator[t]],
        "chosen": operators[steps.chosen[t]],
        "executed": operators[steps.executed[t]],
        "logits": np.round(steps.logits[t], 5).tolist(),
        "q": np.round(steps.q[t], 5).tolist(),
    }
