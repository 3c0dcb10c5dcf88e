"""The best fixed sequence of operators, one for each step: the strongest policy that is blind.

A learned policy that beats it must look at the problem.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import BETWEEN, Surroundings, sequence_program
from reoac_jax.learning.parts import Parts
from reoac_jax.rollout import Request, in_order
from reoac_jax.tasks import Task
from reoac_jax.tasks.decode import generated_text
from reoac_jax.tasks.problem_set import ProblemSet

# Sequences and development problems of each round; the best sequences of a round and their mutants
# (one operator changed) go on to the next, where more problems tell them apart.
_ROUNDS = ((80, 128), (36, 256), (24, 512), (6, 1000))
_PARENTS = 3  # one in so many of a round's sequences was in the round before


class Found(NamedTuple):
    """policy: name of the best sequence for `Policy`. accuracy: on the last round's problems.
    tried: how many sequences were tried."""

    policy: str
    accuracy: float
    tried: int


def search_sequence(config: ConfigDict, parts: Parts, task: Task, seed: int) -> Found:
    """Searches on development problems, by successive halving with mutation."""
    rng = np.random.default_rng(seed)
    steps = config.rollout.max_steps
    settings, names = parts.rollout_settings(config), config.operators.names
    # A look-ahead makes further forward passes; where nothing branches, it is a window like others.
    choices = [
        number
        for number, operator in enumerate(settings.operators)
        if not (settings.branch and operator.branches)
    ]
    problems = ProblemSet.load(task, "dev", parts.tokenizer, config, _ROUNDS[-1][1])
    mesh = sharding.make_mesh()
    program = sequence_program(Surroundings(config, parts, mesh, batch_size=_ROUNDS[0][1]))
    params = sharding.replicate(mesh, parts.base)

    def accuracy(sequence: tuple[int, ...], count: int) -> float:
        requests = [Request.of(problems, i, i) for i in range(count)]
        heads = sharding.replicate(mesh, jnp.array(sequence, jnp.int32))
        tokens = in_order(program(params, heads, jax.random.key(seed), requests)).tokens
        special = parts.vocabulary.is_special
        texts = [generated_text(row, parts.tokenizer, special) for row in tokens]
        grades = task.grade(texts, problems.problems[:count])
        return float(np.mean([grade.correct for grade in grades]))

    best: list[tuple[int, ...]] = []
    tried: set[tuple[int, ...]] = set()
    ranked: list[tuple[float, tuple[int, ...]]] = []
    for size, count in _ROUNDS:
        last = count == _ROUNDS[-1][1]
        population = best[: size if last else size // _PARENTS]
        parents = list(population)
        for _ in range(20 * size):  # short sequences may not have so many
            if len(population) >= size or last:
                break
            new = list(parents[rng.integers(len(parents))]) if parents else [0] * steps
            if parents:
                new[rng.integers(steps)] = int(rng.choice(choices))
            else:
                new = rng.choice(choices, steps).tolist()
            if tuple(new) not in tried:
                population.append(tuple(new))
                tried.add(tuple(new))
        ranked = sorted(((accuracy(s, count), s) for s in population), reverse=True)
        best = [sequence for _, sequence in ranked]
    name = BETWEEN.join(names[operator] for operator in best[0])
    return Found(name, ranked[0][0], len(tried))
