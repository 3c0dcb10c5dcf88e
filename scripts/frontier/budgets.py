"""Accuracy against mean forward passes: what a policy reaches at a budget, and how sure that is.

A rule with a parameter is not one point but a curve. Which values of the parameter count is chosen
on a development split; what they are worth is read on the test split, between two of them as the
mixture that uses each on a share of the problems.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_RESAMPLES = 10_000
# Student's t, two-sided 95 %, for 1 to 9 degrees of freedom: intervals over a handful of seeds.
_T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class Point(NamedTuple):
    """One policy with fixed parameters on one split of `N` problems.

    name: the policy with its parameters. passes: mean forward passes a problem.
    correct: float `[N]`, 1 where the answer was right; a mean over seeds may lie between.
    """

    name: str
    passes: float
    correct: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.correct))


class Interval(NamedTuple):
    """A mean with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def upper_hull(points: Sequence[Point]) -> list[Point]:
    """The points that no mixture of others beats: rising, concave, in order of their passes."""
    hull: list[Point] = []
    for point in sorted(points, key=lambda p: (p.passes, -p.accuracy)):
        if hull and point.accuracy <= hull[-1].accuracy:
            continue  # more passes for nothing
        while len(hull) > 1 and _slope(hull[-2], point) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def at_budget(points: Sequence[Point], budget: float) -> np.ndarray | None:
    """What a policy reaches on each problem at `budget` mean passes, float `[N]`.

    Between two points of the upper hull it is their mixture whose mean passes are the budget.
    Beyond the last one it is the last one, which leaves the rest of the budget unused; before the
    first one there is nothing to say: None.
    """
    hull = upper_hull(points)
    if not hull or budget < hull[0].passes:
        return None
    return _mixture(hull, budget).correct


def divided(
    kinds: Sequence[Sequence[Point]], shares: Sequence[float], budget: float
) -> list[Point] | None:
    """The best that is reached where each kind of problem may have policies of its own.

    Every kind begins at the fewest passes of its upper hull; what is left of the budget goes where
    a pass is worth most, segment by segment of the hulls, which is best since they are concave.

    Args:
      kinds: of each, all policies on its problems. shares: of all problems that are of a kind.
      budget: mean passes over all problems.

    Returns:
      Of each kind the point, a mixture of two, that it has come to; None where the fewest passes
      are more than the budget.
    """
    hulls = [upper_hull(points) for points in kinds]
    left = budget - sum(share * hull[0].passes for share, hull in zip(shares, hulls, strict=True))
    if left < 0:
        return None
    reached = [hull[0].passes for hull in hulls]
    segments = sorted(
        (
            (-_slope(before, after), kind, after.passes)
            for kind, hull in enumerate(hulls)
            for before, after in zip(hull, hull[1:], strict=False)
        )
    )
    for _, kind, end in segments:
        step = min(shares[kind] * (end - reached[kind]), left)
        reached[kind] += step / shares[kind]
        left -= step
    return [_mixture(hull, passes) for hull, passes in zip(hulls, reached, strict=True)]


def paired_difference(ours: np.ndarray, theirs: np.ndarray, seed: int = 0) -> Interval:
    """Mean of ours - theirs over the same problems, with its percentile bootstrap interval.

    (Efron 1979.) Problems are drawn anew, each with both of its results, so that how hard a problem
    is does not widen the interval.

    Args:
      ours, theirs: float `[N]`, results on the same problems in the same order.
    """
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    rng = np.random.default_rng(seed)
    size = len(difference)
    means = np.array([difference[rng.integers(0, size, size)].mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(difference.mean()), float(low), float(high))


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean over 2 to 10 training seeds, with Student's 95 % interval of that mean."""
    count = len(values)
    if not 2 <= count <= len(_T_95) + 1:
        raise ValueError(f"{count} seeds; expected 2 to {len(_T_95) + 1}")
    half = _T_95[count - 2] * float(np.std(values, ddof=1)) / math.sqrt(count)
    mean = float(np.mean(values))
    return Interval(mean, mean - half, mean + half)


def _mixture(hull: Sequence[Point], passes: float) -> Point:
    """The point of a hull at so many passes, its first one's at least; beyond the last one that."""
    for before, after in zip(hull, hull[1:], strict=False):
        if passes < after.passes:
            share = (passes - before.passes) / (after.passes - before.passes)
            correct = (1.0 - share) * before.correct + share * after.correct
            name = f"{1.0 - share:.0%} {before.name}, {share:.0%} {after.name}"
            return Point(before.name if share == 0.0 else name, passes, correct)
    return hull[-1]._replace(correct=hull[-1].correct.astype(np.float64))


def _slope(before: Point, after: Point) -> float:
    rise, run = after.accuracy - before.accuracy, after.passes - before.passes
    return rise / run if run > 0 else math.inf
