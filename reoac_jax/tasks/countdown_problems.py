"""How countdown's problems are drawn: numbers, signs and equations, as arrays."""

from typing import NamedTuple

import numpy as np

from reoac_jax.tasks.splits import members
from reoac_jax.tasks.task import Split

SIGNS = np.array(["+", "-", "*", "/"])
_DRAWS: dict[Split, int] = {"train": 4, "test": 8, "dev": 30}  # for each problem that is wanted


class DrawnProblems(NamedTuple):
    """N generated problems with n numbers and S = n - 1 equations.

    Attributes:
      numbers: int `[N, n]` the given numbers, in the order of the prompt.
      signs: int `[N, S]` index of each equation's operator in `+ - * /`.
      equations: int `[N, S, 3]` left operand, right operand, result.
    """

    numbers: np.ndarray
    signs: np.ndarray
    equations: np.ndarray


def draw_problems(
    random: np.random.Generator,
    size: int,
    split: Split,
    train_part: str = "all",
    *,
    numbers: int,
    max_number: int,
    max_intermediate: int,
    ordered: bool,
) -> DrawnProblems:
    """Draws `size` problems of a split (and part of it); fewer if it does not hold so many.

    Each equation takes two random numbers of the pool and one of the operators whose result is a
    whole number from 1 to `max_intermediate`; a draw without such an operator is dropped. The
    larger operand stands left, but for half of the `+` and `*` if not `ordered`.
    """
    batches: list[DrawnProblems] = []
    keys = np.zeros(0, np.uint64)
    barren = 0  # batches in a row that brought nothing new
    found = 0
    while found < size and barren < 8:
        # About a tenth of the draws are dropped, a sixth are test, a 24th development problems.
        wanted = (size - found) * _DRAWS[split] + 1000
        batch = _draw_batch(random, min(wanted, 1 << 20), numbers, max_number, max_intermediate)
        batch_keys = problem_keys(batch.numbers, batch.equations[:, -1, 2])
        keep = members(batch_keys, split, train_part)
        if split == "test":
            first = np.zeros(len(keep), bool)
            first[np.unique(batch_keys, return_index=True)[1]] = True
            keep &= first & ~np.isin(batch_keys, keys)
            keys = np.concatenate([keys, batch_keys[keep]])
        batches.append(DrawnProblems(*(field[keep] for field in batch)))
        found += int(keep.sum())
        barren = 0 if keep.any() else barren + 1
    fields = zip(*batches, strict=True)
    drawn = DrawnProblems(*(np.concatenate(field)[:size] for field in fields))
    if ordered:
        return drawn
    symmetric = np.isin(SIGNS[drawn.signs], ("+", "*"))
    swap = symmetric & (random.random(symmetric.shape) < 0.5)
    left, right, result = np.moveaxis(drawn.equations, -1, 0)
    operands = np.where(swap, right, left), np.where(swap, left, right)
    return drawn._replace(equations=np.stack([*operands, result], axis=-1))


def problem_keys(numbers: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """uint64 [N]: one number for each multiset of given numbers [N, n] (at most 99) and target."""
    keys = targets.astype(np.uint64)
    for column in np.sort(numbers, axis=1).T:
        keys = keys * np.uint64(100) + column.astype(np.uint64)
    return keys


def _draw_batch(
    random: np.random.Generator, size: int, numbers: int, max_number: int, max_intermediate: int
) -> DrawnProblems:
    given = random.integers(1, max_number + 1, (size, numbers))
    pool = given.copy()
    signs = np.zeros((size, numbers - 1), np.int64)
    equations = np.zeros((size, numbers - 1, 3), np.int64)
    alive = np.ones(size, bool)
    for step in range(numbers - 1):
        pool = random.permuted(pool, axis=1)
        low, high = np.sort(pool[:, -2:], axis=1).T
        results = np.stack([high + low, high - low, high * low, high // low], axis=1)
        legal = (results >= 1) & (results <= max_intermediate)
        legal[:, 3] &= high % low == 0
        sign = np.argmax(random.random(legal.shape) * legal, axis=1)
        result = np.take_along_axis(results, sign[:, None], axis=1)[:, 0]
        alive &= legal.any(axis=1)
        result = np.where(alive, result, 1)
        signs[:, step] = sign
        equations[:, step] = np.stack([high, low, result], axis=1)
        pool = np.concatenate([pool[:, :-2], result[:, None]], axis=1)
    return DrawnProblems(given[alive], signs[alive], equations[alive])
