"""What a trained critic knows of problems that neither it nor the backbone has learned on."""

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from frontier.measure import Study
from reoac_jax.devices import sharding
from reoac_jax.learning.episodes import ExplainedVariance, explained_variance
from reoac_jax.learning.experiment import Experiment
from reoac_jax.learning.parts import Parts, Trained
from reoac_jax.rollout import Request, in_order
from reoac_jax.tasks.decode import generated_text
from reoac_jax.tasks.problem_set import ProblemSet
from reoac_jax.tasks.task import Split


def explained_on(
    study: Study, split: Split, config: FrozenConfigDict, parts: Parts, trained: Trained
) -> ExplainedVariance:
    """Of the returns of one episode of each problem of a split, drawn as the run draws them.

    Raises `ValueError` where the run has no critic.
    """
    problems = ProblemSet.load(study.task, split, parts.tokenizer, config, study.problems(split))
    experiment = Experiment.create(config, parts, study.task, problems)
    mesh = experiment.rollout_mesh
    requests = [Request.of(problems, index, index) for index in range(len(problems))]
    params = sharding.place_parameters(mesh, trained.params, config.sharding.fsdp)
    heads = sharding.replicate(mesh, trained.heads)
    rollout = in_order(experiment.program(params, heads, jax.random.key(config.seed), requests))
    special = parts.vocabulary.is_special
    texts = [generated_text(row, parts.tokenizer, special) for row in rollout.tokens]
    grades = study.task.grade(texts, problems.problems, config.reward.mode)
    rewards = np.array([grade.reward for grade in grades], np.float32)
    explained = explained_variance(rewards, rollout.steps, config.reward.cost_lambda)
    if explained is None:
        raise ValueError(f"{config.exp_name} has no critic")
    return explained
