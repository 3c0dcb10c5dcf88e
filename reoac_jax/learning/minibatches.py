"""Which transitions of an iteration share a minibatch: those whose rows are of like length.

What is computed for a row is as wide as the longest prompt of its minibatch.
"""

import numpy as np


def like_length(lengths: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Cuts the transitions of an iteration into minibatches of like length, in random order.

    Each transition is in exactly one of them, and they are of one size, or two that differ by 1, as
    if cut where they lie: over the iteration every transition counts as before. Which others it
    shares a step with is no longer independent of its length. Prompts of one length are cut where
    they lie, and nothing is drawn.

    Args:
      lengths: int `[N]`, prompt tokens of each transition, N >= count, in random order; none where
        `count` is 0.
      count: of minibatches.

    Returns:
      `count` arrays of places in `lengths`, int64.
    """
    if not count:
        return []
    if (lengths == lengths[0]).all():
        return np.array_split(np.arange(len(lengths)), count)
    # Stable: among equal lengths the order stays random.
    batches = np.array_split(np.argsort(lengths, kind="stable"), count)
    return [batches[i] for i in rng.permutation(count)]
