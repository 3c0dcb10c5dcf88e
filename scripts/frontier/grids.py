"""What is tried: the parameters of each rule, and what actors are trained with."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.99)
FACTORS = (0.1, 0.25, 0.5, 1.0, 2.0)
BOUNDS = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
RUNS = (0.5, 0.7, 0.9, 0.95, 0.97, 0.99)
SETTLED = ((0.7, 0.01), (0.9, 0.01), (0.7, 0.1), (0.9, 0.1), (0.9, 1.0), (0.5, 1.0))
ETAS = (0.02, 0.1)
# Checked by the task's notation and rewritten.
CHECKED = "check_and_rewrite"
WRITERS = ("threshold:threshold=0.8", "threshold:threshold=0.95")  # and the first one by hand


@dataclasses.dataclass(frozen=True)
class Lengths:
    """What depends on how many tokens an answer has.

    blocks: positions; 0: whole rows. steps: of the rules that are told how many they have.
    sequence_steps: of the sequences that are searched. by_hand: left to right, so many a pass, the
    last pass all the rest. rewriting_passes: of a row that is checked and rewritten, at most.
    budgets: mean passes at which the table compares; the picture is about the middle one.
    exponents: of the passes in the reward of policies over positions; the first one untrained too.
    seeded: those of them that are trained in every seed, the others in one run each.
    """

    blocks: tuple[int, ...]
    steps: tuple[int, ...]
    sequence_steps: tuple[int, ...]
    by_hand: tuple[str, ...]
    rewriting_passes: tuple[int, ...]
    budgets: tuple[float, ...]
    exponents: tuple[float, ...]
    seeded: tuple[float, ...]


LENGTHS = {  # by the generated positions of a row
    20: Lengths(
        blocks=(0, 4, 10),
        steps=(4, 7, 10),
        sequence_steps=(7,),
        by_hand=(
            "1-1-1-1-1-2", "1-1-2-2-2", "2-2-2-2", "1-1-1-1-1-1-1-1-1", "3-3-3", "4-4", "1-2-4",
            "2-2-4", "2-3-3", "1-1-2-4", "1-2-2-3", "1-2-2-2-2",
        ),
        rewriting_passes=(8, 12, 16, 24, 40),
        budgets=(4.0, 5.0, 6.0, 7.0, 8.0, 10.0),
        exponents=(1.0, 0.25),
        seeded=(1.0, 0.25),
    ),
    25: Lengths(  # answers of 12, 18 and 24 tokens
        blocks=(0, 6),
        steps=(7, 12),
        sequence_steps=(),  # even quotas waste passes on the padding of short answers
        by_hand=(
            "1-1-1-1-1-2-2-2-2-2", "1-1-1-1-1-1-1-1-1-2", "-".join("1" * 16), "-".join("2" * 11),
            "-".join("3" * 7), "-".join("4" * 5),
        ),
        rewriting_passes=(14, 20, 32, 50),
        budgets=(6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 14.0),
        exponents=(1.0, 3.0),
        seeded=(3.0,),
    ),
}  # fmt: skip
# What actors are trained with: steps, cost a step, and whether operators may reveal by confidence,
# as the adaptive rules do. Those of SEEDED in every seed, the others in one run each.
BOLD: Mapping[str, Any] = {
    "operators.names": ("O_NUM", "O_OP", "O_SCOPE", "O_NEXT", "O_FAST", "O_CONFIDENT"),
    "operators.O_SCOPE.threshold": 0.95,
    "operators.O_FAST.step_scale": 1.0,
    "operators.O_FAST.threshold": 0.7,
    "operators.O_CONFIDENT.threshold": 0.9,
    "rollout.empty_operator": "mask",
}
# Each operator at every step, with these thresholds beside its own.
OPERATOR_THRESHOLDS = (0.7, 0.8, 0.9)
# Sequences that are searched: what differs from BOLD, and what a pass is charged in the search. A
# charged one is to be the rival of what takes few passes, and its operators reveal more at once.
SEARCHED: Mapping[str, tuple[Mapping[str, Any], float]] = {
    "bold sequence": ({}, 0.0),
    "bold sequence, charged": (
        {
            "operators.O_NUM.threshold": 0.7,
            "operators.O_OP.threshold": 0.7,
            "operators.O_SCOPE.threshold": 0.8,
            "operators.O_FAST.threshold": 0.5,
            "operators.O_CONFIDENT.threshold": 0.7,
        },
        0.05,
    ),
}
COSTS = (0.01, 0.03, 0.1)
ACTORS: Mapping[str, Mapping[str, Any]] = {
    "actor T7": {"rollout.max_steps": 7, "reward.cost_lambda": 0.01},
    "actor T20 0.01": {"rollout.max_steps": 20, "reward.cost_lambda": 0.01},
    **{
        f"bold T20 {cost}": {"rollout.max_steps": 20, "reward.cost_lambda": cost, **BOLD}
        for cost in COSTS
    },
}
SEEDED = ("actor T7", "bold T20 0.03")
# The subject whose actor and backbone were trained together; the others are either alone.
TOGETHER = "together"
# The strongest rival of that: the backbone that it starts from, trained further alone, in the order
# that is best in few passes, by as many episodes and gradient steps.
IN_FIVE = "trajectory in five"
# The policy over positions whose heads that training starts from.
FROM_THE_LEFT: Mapping[str, Any] = {
    "reward.passes_exponent": 0.25,
    "heads.positions.start": 0.85,
    "heads.positions.start_decay": 2.0,
}
# Each trained policy over positions also at budgets that it was not trained for.
BIASED = "actor, biased"
BIASES = (-3.0, -1.5, 1.5, 3.0)


def adaptive(blocks: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Family and policy of every rule that decides itself how much it reveals."""
    for block in blocks:
        where = f"block_len={block}"
        for t in THRESHOLDS:
            yield "threshold", f"threshold:{where},threshold={t}"
        for f in FACTORS:
            yield "factor", f"factor:{where},factor={f}"
        for g in BOUNDS:
            yield "entropy_bound", f"entropy_bound:{where},gamma={g}"
    for t in RUNS:
        yield "prefix_threshold", f"prefix_threshold:threshold={t}"
    for t, k in SETTLED:
        yield "klass", f"klass:block_len=0,threshold={t},stable={k}"


def rewriting(lengths: Lengths) -> Iterator[tuple[str, str]]:
    """Family and policy of the loop of checks and rewriting, around several samplers."""
    for writer in (*WRITERS, f"schedule:counts={lengths.by_hand[0]}"):
        for passes in lengths.rewriting_passes:
            yield CHECKED, f"{CHECKED}:passes={passes},sampler={writer}"


def scheduled(lengths: Lengths, gen_len: int) -> Iterator[tuple[str, str]]:
    """Family and policy of every rule that is told how many steps it has."""
    for counts in lengths.by_hand:
        yield "by_hand", f"schedule:counts={counts}"
    for count in lengths.steps:
        for rule in ("confidence", "margin", "entropy", "left_to_right"):
            for skip in ("false", "true"):
                yield rule, f"{rule}:steps={count},skip_eos={skip}"
        for rule in ("ancestral", "ancestral_cached"):
            yield rule, f"{rule}:steps={count}"
        for block in lengths.blocks:
            if block == 0 or -(-gen_len // block) <= count:
                yield "low_confidence", f"low_confidence:steps={count},block_len={block}"
        yield "path_planning", f"path_planning:steps={count}"
        for schedule in ("cap", "loop"):
            for eta in ETAS:
                yield "remdm", f"remdm:steps={count},schedule={schedule},eta={eta}"
        yield "remdm", f"remdm:steps={count},schedule=conf"
    for block in lengths.blocks:
        yield "dilated", f"dilated:block_len={block}"
