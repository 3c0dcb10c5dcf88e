"""Which split a generated problem belongs to, decided by the problem itself.

A problem's canonical key is hashed; one key in six is a test problem, whatever the seed, the sizes
or the order of generation. So no training problem of any run is a test problem of another. Training
problems can be parted once more: a policy that learns on problems which its backbone has memorised
learns how to recite, so that two in five are reserved for it; an eighth of these is kept for
development, where problems may repeat: few are left, and without their repetitions the common ones,
which are the easy ones, would be too rare.
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from reoac_jax.config.schema import Option
from reoac_jax.tasks.task import Split

# Keys of every task whose problems are generated: how many there are of each split, and the seed.
GENERATOR_OPTIONS: Mapping[str, Option] = {
    "train_size": Option("int", "training problems", 20_000, low=1, high=10_000_000),
    "dev_size": Option("int", "development problems", 1000, low=1, high=1_000_000),
    "test_size": Option("int", "test problems, all different", 1000, low=1, high=1_000_000),
    "seed": Option(
        "int",
        "of the generator; the problems do not depend on config.seed",
        0,
        low=0,
        high=2**31 - 1,
    ),
}

_SHARES = 6  # of six keys one is a test problem,
_RESERVED = 2  # two are reserved for a policy, and three are left to supervised fine-tuning.
_DEVELOPMENT = 8  # Of as many reserved ones, one is for development.
TRAIN_PARTS = ("all", "supervised", "reserved")


def split_of_text(key: str) -> Split:
    """The split of the problem with this canonical text."""
    digest = hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest()
    mixed = int.from_bytes(digest, "little")
    rest, place = divmod(mixed, _SHARES)
    if place == 0:
        return "test"
    return "dev" if place <= _RESERVED and rest % _DEVELOPMENT == 0 else "train"


def members(keys: np.ndarray, split: Split, train_part: str = "all") -> np.ndarray:
    """bool [N]: which of the canonical keys, uint64 [N], belong to a split.

    train_part: one of `TRAIN_PARTS`, of the training split: all of it, the problems for supervised
    fine-tuning or those reserved for the policy.

    The keys are mixed by the finaliser of SplitMix64 (Steele, Lea, Flood 2014), so that close
    keys do not share their split.
    """
    mixed = keys.astype(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed = mixed ^ (mixed >> np.uint64(31))
    place = mixed % np.uint64(_SHARES)
    if split == "test":
        return place == 0
    reserved = (place > 0) & (place <= _RESERVED)
    development = reserved & (mixed // np.uint64(_SHARES) % np.uint64(_DEVELOPMENT) == 0)
    if split == "dev":
        return development
    parts = {"all": place > 0, "reserved": reserved, "supervised": place > _RESERVED}
    return parts[train_part] & ~development
