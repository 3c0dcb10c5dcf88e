"""The best fixed sequence of operators, one for each step: the strongest policy that is blind.

A learned policy that beats it must look at the problem.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import BETWEEN, Surroundings, sequence_program
from reoac_jax.learning.parts import Parts
from reoac_jax.rollout import Request, in_order
from reoac_jax.tasks import Problem, Task
from reoac_jax.tasks.decode import generated_text
from reoac_jax.tasks.problem_set import ProblemSet

# Sequences and development problems of each round; the best sequences of a round and their mutants
# (one operator changed) go on to the next, where more problems tell them apart.
ROUNDS = ((80, 128), (36, 256), (24, 512), (6, 1000))
_PARENTS = 3  # one in so many of a round's sequences was in the round before


class Found(NamedTuple):
    """policy: name of the best sequence for `Policy`. accuracy: on the last round's problems.
    tried: how many sequences were tried."""

    policy: str
    accuracy: float
    tried: int


def search_sequence(
    config: ConfigDict,
    parts: Parts,
    task: Task,
    seed: int,
    wanted: Callable[[Problem], bool] = lambda problem: True,
    rounds: Sequence[tuple[int, int]] = ROUNDS,
    charge: float = 0.0,
) -> Found:
    """Searches on the development problems that are wanted, by successive halving with mutation.

    charge: what a forward pass takes off the share of right answers, where sequences compete.
    """
    rng = np.random.default_rng(seed)
    steps = config.rollout.max_steps
    settings, names = parts.rollout_settings(config), config.operators.names
    # A look-ahead makes further forward passes; where nothing branches, it is a window like others.
    choices = [
        number
        for number, operator in enumerate(settings.operators)
        if not (settings.branch and operator.branches)
    ]
    problems = ProblemSet.load(task, "dev", parts.tokenizer, config)
    indices = [i for i, problem in enumerate(problems.problems) if wanted(problem)]
    mesh = sharding.make_mesh()
    program = sequence_program(Surroundings(config, parts, mesh, batch_size=rounds[0][1]))
    params = sharding.replicate(mesh, parts.base)

    def measured(sequence: tuple[int, ...], count: int) -> tuple[float, float]:
        """What is ranked by, and accuracy."""
        chosen = indices[:count]
        requests = [Request.of(problems, i, i) for i in chosen]
        heads = sharding.replicate(mesh, jnp.array(sequence, jnp.int32))
        results = in_order(program(params, heads, jax.random.key(seed), requests))
        special = parts.vocabulary.is_special
        texts = [generated_text(row, parts.tokenizer, special) for row in results.tokens]
        grades = task.grade(texts, [problems.problems[i] for i in chosen])
        accuracy = float(np.mean([grade.correct for grade in grades]))
        passes = float(results.steps.forward_passes.sum(axis=1).mean())
        return accuracy - charge * passes, accuracy

    # Those of one operator compete from the start: what needs no schedule is found at once.
    best: list[tuple[int, ...]] = [(operator,) * steps for operator in choices]
    tried = set(best)
    ranked: list[tuple[tuple[float, float], tuple[int, ...]]] = []
    for number, (size, count) in enumerate(rounds):
        last = number == len(rounds) - 1
        population = best[: size if last else max(size // _PARENTS, len(choices))]
        parents = list(population)
        for _ in range(20 * size):  # short sequences may not have so many
            if len(population) >= size or last:
                break
            new = rng.choice(choices, steps)
            if number or rng.random() < 0.5:
                changed = rng.integers(steps)
                new[:] = np.where(
                    np.arange(steps) == changed, new, parents[rng.integers(len(parents))]
                )
            sequence = tuple(new.tolist())
            if sequence not in tried:
                population.append(sequence)
                tried.add(sequence)
        ranked = sorted(((measured(s, count), s) for s in population), reverse=True)
        best = [sequence for _, sequence in ranked]
    name = BETWEEN.join(names[operator] for operator in best[0])
    return Found(name, ranked[0][0][1], len(tried))
