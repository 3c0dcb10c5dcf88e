"""Which split a generated problem belongs to, decided by the problem itself.

A problem's canonical key is hashed; one key in six is a test problem, whatever the seed, the
sizes or the order of generation. So no training problem of any run is a test problem of another.
"""

import hashlib

import numpy as np

from reoac_jax.tasks.task import Split

_TEST_SHARE = 6  # one key in so many


def split_of_text(key: str) -> Split:
    """The split of the problem with this canonical text."""
    digest = hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "little") % _TEST_SHARE == 0 else "train"


def is_test_number(keys: np.ndarray) -> np.ndarray:
    """bool [N]: which of the canonical keys, uint64 [N], belong to the test split.

    The keys are mixed by the finaliser of SplitMix64 (Steele, Lea, Flood 2014), so that close
    keys do not share their split.
    """
    mixed = keys.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    return mixed % np.uint64(_TEST_SHARE) == 0
