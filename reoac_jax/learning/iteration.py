"""What one iteration of training does: graded episodes, gradient steps, and their metrics.

Everything random derives from the run's seed and the iteration.
"""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.devices import processes, sharding
from reoac_jax.devices.streams import HostStream, RunStream
from reoac_jax.learning.episodes import (
    episode_returns,
    explained_variance,
    rewards_for_passes,
    rollout_summary,
)
from reoac_jax.learning.experiment import Experiment
from reoac_jax.learning.grading import Grading
from reoac_jax.learning.learner import LearnerState
from reoac_jax.learning.objectives import Objective
from reoac_jax.learning.replay import Replay, crop_prompts
from reoac_jax.rollout import Request, Rollout, in_order
from reoac_jax.runs.finite import check_finite
from reoac_jax.system.interrupt import Interrupt, Interrupted
from reoac_jax.tasks import Grade


class Graded(NamedTuple):
    """Of each episode: reward float32 `[E]`, correct bool `[E]`, failed bool `[E]`."""

    reward: np.ndarray
    correct: np.ndarray
    failed: np.ndarray


class Collected(NamedTuple):
    """The graded episodes of one iteration; axis 0 is the episode, of all processes.

    texts, grades: of this process's own episodes, which in the first process come first.
    rolled_out: when its devices were done with them, by the monotonic clock.
    """

    indices: list[int]
    rollout: Rollout
    graded: Graded
    returns: np.ndarray
    texts: list[str]
    grades: list[Grade]
    rolled_out: float


def collect(
    experiment: Experiment, state: LearnerState, iteration: int, interrupt: Interrupt
) -> Collected:
    """Rolls out and grades the episodes of one iteration, in the order of the problems drawn.

    Each process does its share of them with its own devices, and has the results of all; where the
    devices of all hold the backbone in parts, they do all of them together, and each grades its
    share. Raises `Interrupted` between two batches, and `FloatingPointError` for a reward that is
    NaN.
    """
    config, problem_set = experiment.config, experiment.problem_set
    params, heads = experiment.policy(state)
    key = jax.random.fold_in(experiment.key, RunStream.ROLLOUT)
    indices = episode_problems(config, len(problem_set), iteration)
    share = processes.own_share(len(indices))
    together = config.sharding.fsdp
    rolled = slice(0, len(indices)) if together else share
    first = iteration * len(indices) + rolled.start
    requests = [
        Request.of(problem_set, index, first + i) for i, index in enumerate(indices[rolled])
    ]
    # Of the requests, those that are graded here.
    own = range(share.start - rolled.start, share.stop - rolled.start)
    problems = [problem_set.problems[index] for index in indices[share]]
    batches, abandoned = [], False
    with Grading(experiment.task, problems, experiment.parts, config.reward.mode) as grading:
        try:
            results = experiment.program(params, heads, key, requests)
            for batch in interrupt.until_asked(results, _any_process if together else bool):
                batches.append(batch)
                members, part = batch
                here = [row for row, member in enumerate(members) if member in own]
                grading.add([members[row] - own.start for row in here], part.tokens[here])
        except Interrupted:
            abandoned = True
        if processes.all_reduce_max(abandoned):
            raise Interrupted
        rolled_out = time.monotonic()
        rollout = jax.tree.map(lambda x: x[own.start : own.stop], in_order(batches))
        texts, grades = grading.finish()
    graded = Graded(
        np.array([grade.reward for grade in grades], np.float32),
        np.array([grade.correct for grade in grades]),
        np.array([grade.failed for grade in grades]),
    )
    rollout, graded = processes.all_gather((rollout, graded), len(indices))
    reward = rewards_for_passes(
        graded.reward, rollout.steps, config.rollout.gen_len, config.reward.passes_exponent
    )
    graded = graded._replace(reward=reward)
    check_finite(iteration, {"reward": reward.mean()}, {})
    returns = episode_returns(graded.reward, rollout.steps, config.reward.cost_lambda)
    return Collected(indices, rollout, graded, returns, texts, grades, rolled_out)


def _any_process(asked: bool) -> bool:
    """Whether some process was asked to stop: where one makes a pass, all must."""
    return bool(processes.all_reduce_max(asked))


def episode_problems(config: ConfigDict, problem_count: int, iteration: int) -> list[int]:
    """Problem of each episode of an iteration: all problems once in random order, then anew."""
    copies = config.train.episodes_per_prompt
    prompts = config.train.episodes_per_iter // copies
    epochs: dict[int, np.ndarray] = {}
    indices = []
    for position in range(iteration * prompts, (iteration + 1) * prompts):
        epoch, place = divmod(position, problem_count)
        if epoch not in epochs:
            rng = np.random.default_rng([config.seed, HostStream.PROMPT_ORDER, epoch])
            epochs[epoch] = rng.permutation(problem_count)
        indices += [int(epochs[epoch][place])] * copies
    return indices


def update(
    experiment: Experiment, state: LearnerState, replay: Replay, iteration: int
) -> tuple[LearnerState, dict[str, float]]:
    """The gradient steps of one iteration; metrics are means over the steps of each kind.

    What the inputs of heads that see rows are standardised by changes last, so that the gradient
    steps see what the rollout saw; but in the first iteration first, when nothing is known yet.
    """
    config, learner = experiment.config, experiment.learner
    train, settings = config.train, learner.settings
    base = experiment.base if learner.heads_read_base else None
    if learner.heads.rows is not None and iteration == 0:
        state = _update_statistics(experiment, state, replay, iteration)
    measured: dict[str, list[jax.Array]] = {}

    def note(metrics: dict[str, jax.Array]) -> None:
        for name, value in metrics.items():
            measured.setdefault(name, []).append(value)

    def among(objective: Objective) -> int | None:
        return train.episodes_per_iter if objective.on_policy else None

    rng = np.random.default_rng([config.seed, HostStream.HEAD_BATCHES, iteration])
    for step, count, latest in (
        (learner.critic_step, train.critic_steps, None),
        (learner.actor_step, train.actor_steps, among(settings.actor)),
    ):
        for _ in range(count):
            batch = replay.head_batch(rng, train.head_batch, latest)
            state, metrics = step(state, *sharding.split_padded(learner.mesh, batch), base)
            note(metrics)
    if settings.trainable.item is not None:
        rng = np.random.default_rng([config.seed, HostStream.BACKBONE_BATCHES, iteration])
        dropout_key = jax.random.fold_in(experiment.key, RunStream.DROPOUT)
        dropout_key = jax.random.fold_in(dropout_key, iteration)
        objective = settings.backbone
        batches = replay.backbone_batches(
            rng, train.backbone_batch, train.backbone_steps, objective.target, among(objective)
        )
        for number, written in enumerate(batches):
            batch, real = sharding.split_padded(
                learner.mesh, crop_prompts(written), train.backbone_accumulate
            )
            key = jax.random.fold_in(dropout_key, number)
            state, metrics = learner.backbone_step(
                state, experiment.base, experiment.start, batch, real, key
            )
            note(metrics)
    if learner.heads.rows is not None and iteration > 0:
        state = _update_statistics(experiment, state, replay, iteration)
    return state, {name: float(np.mean(jax.device_get(v))) for name, v in measured.items()}


def _update_statistics(
    experiment: Experiment, state: LearnerState, replay: Replay, iteration: int
) -> LearnerState:
    """With transitions of the present iteration, as many as in a minibatch of the heads."""
    config, learner = experiment.config, experiment.learner
    rng = np.random.default_rng([config.seed, HostStream.STATISTICS_BATCHES, iteration])
    batch = replay.head_batch(rng, config.train.head_batch, config.train.episodes_per_iter)
    placed = sharding.split_padded(learner.mesh, batch)
    return learner.statistics_step(state, *placed, experiment.base)


def iteration_metrics(
    config: ConfigDict,
    collected: Collected,
    truncation: dict[str, int],
    rollout_seconds: float,
    update_seconds: float,
) -> dict[str, Any]:
    """The line of metrics.jsonl that an iteration gives, but for its losses; times in seconds."""
    graded, count = collected.graded, len(collected.indices)
    explained = explained_variance(
        graded.reward, collected.rollout.steps, config.reward.cost_lambda
    )
    known: dict[str, Any] = {}
    if explained is not None:
        known = {
            "explained_variance": explained.overall,
            "explained_variance_by_step": explained.by_step,
        }
    return {
        "reward": float(graded.reward.mean(dtype=np.float64)),
        "accuracy": float(graded.correct.mean()),
        "return": float(collected.returns.mean()),
        **rollout_summary(collected.rollout, config.operators.names),
        **known,
        "grader_failures": int(graded.failed.sum()),
        **truncation,
        "rollout_seconds": rollout_seconds,
        "update_seconds": update_seconds,
        "rollout_episodes_per_second": count / rollout_seconds,
        "update_episodes_per_second": count / update_seconds,
    }
