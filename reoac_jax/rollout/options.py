"""The keys of a rollout: lengths, how tokens and operators are drawn, branching, repair, noise."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError

_DRAW = ("sample", "argmax")
NO_CACHE = "none"  # of rollout.cache

OPTIONS: Mapping[str, Option] = {
    "rollout.max_steps": Option("int", "denoising steps", 32, low=1, high=1024),
    "rollout.gen_len": Option("int", "generated tokens a row", 64, low=1, high=4096),
    "rollout.max_prompt_len": Option(
        "int", "longer prompts are cut at the left and counted", 256, low=1, high=4096
    ),
    "rollout.update_rule": Option(
        "str",
        "how selected positions change: denoise (masked ones are revealed) or overwrite (all are "
        "written anew, the original's)",
        "denoise",
        choices=("denoise", "overwrite"),
    ),
    "rollout.sample_strategy": Option("str", "how a token is drawn", "sample", choices=_DRAW),
    "rollout.temperature": Option(
        "float",
        "of the token draw",
        1.0,
        low=1e-4,  # below it a softmax of float32 logits overflows
        high=100.0,
    ),
    "rollout.selection_mode": Option(
        "str", "how an operator, or positions, are picked", "sample", choices=_DRAW
    ),
    "rollout.empty_operator": Option(
        "str",
        "an operator that can change nothing: mask (it may not be chosen) or fallback (another "
        "acts in its place, the original's)",
        "mask",
        choices=("mask", "fallback"),
    ),
    "rollout.fallback_operator": Option(
        "str", "the one that acts in its place, of operators.names", "O_SCOPE"
    ),
    "rollout.repair_tokens": Option(
        "int",
        "denoise: tokens masked again a step, at most; 0: no repair",
        0,
        low=0,
        high=4096,
    ),
    "rollout.repair_threshold": Option(
        "float",
        "denoise: only tokens written with less confidence than this are repaired",
        0.5,
        low=0.0,
        high=1.0,
    ),
    "rollout.branch_steps": Option("ints", "steps, from 0, at which every row branches", (), low=0),
    "rollout.branch_k": Option(
        "int", "candidates that a branching step compares; 0: no branching", 0, low=0, high=64
    ),
    "rollout.cache": Option(
        "str",
        "samplers, on decoders: none, every pass computes whole rows; prefix, keys and values of "
        "the prompt and of finished blocks are kept from each block's first pass, which computes "
        "less and is not exact",
        NO_CACHE,
        choices=(NO_CACHE, "prefix"),
        before=NO_CACHE,
    ),
    "rollout.sigma": Option(
        "str",
        "noise level, which only time-conditioned backbones see: that of the masked_share, as in "
        "training, or of a schedule over the steps (the original's)",
        "masked_share",
        choices=("masked_share", "schedule"),
    ),
    "rollout.sigma_schedule": Option(
        "str",
        "sigma schedule: its shape",
        "cosine",
        choices=("cosine", "linear"),
    ),
    "rollout.sigma_min": Option(
        "float", "sigma schedule: noise level of the last step", 1e-4, low=0.0, high=1e3
    ),
    "rollout.sigma_max": Option(
        "float", "sigma schedule: noise level of the first step", 1.0, low=0.0, high=1e3
    ),
    "rollout.batch_size": Option(
        "int", "rows denoised together, per device", 32, low=1, high=65536
    ),
    "reward.cost_lambda": Option(
        "float", "return = reward - cost_lambda * sum of the step costs", 0.01, low=0.0, high=100.0
    ),
    "evaluation.sample_strategy": Option(
        "str", "how a token is drawn in evaluation", "argmax", choices=_DRAW
    ),
    "evaluation.selection_mode": Option(
        "str", "how they are picked in evaluation", "argmax", choices=_DRAW
    ),
    "evaluation.branch": Option("bool", "branch in evaluation as in training", False),
}


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where branching steps or noise levels contradict each other."""
    max_steps, branch_steps = values["rollout.max_steps"], values["rollout.branch_steps"]
    if any(step >= max_steps for step in branch_steps):
        raise InputError(
            f"rollout.branch_steps is {branch_steps}; expected steps from 0 to {max_steps - 1},"
            f" for rollout.max_steps is {max_steps} (nothing follows the last one: no look-ahead)"
        )
    if len(set(branch_steps)) < len(branch_steps):
        raise InputError(f"rollout.branch_steps is {branch_steps}; expected each step once")
    low, high = values["rollout.sigma_min"], values["rollout.sigma_max"]
    if low > high:
        raise InputError(f"rollout.sigma_min is {low}; expected at most rollout.sigma_max, {high}")
