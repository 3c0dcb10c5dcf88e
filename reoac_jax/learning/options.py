"""The keys of learning: what is trained, towards what, how fast and on how much."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.config.schema import Option
from reoac_jax.learning.objectives import actor_objectives, backbone_objectives
from reoac_jax.learning.trainable import TRAINABLES, Frozen
from reoac_jax.policy.distributions import AnyPositions
from reoac_jax.system.errors import InputError

ACTORS, BACKBONES = actor_objectives(), backbone_objectives()


def _rate(whose: str, default: float) -> Option:
    return Option("float", f"AdamW learning rate of the {whose}", default, low=0.0, high=1.0)


def _final_rate(name: str) -> Option:
    return Option(
        "float",
        f"share of {name}_rate at the run's last gradient step, to which it falls in a line; "
        "1: the rate is constant",
        1.0,
        low=0.0,
        high=1.0,
        before=1.0,
    )


def _steps(whose: str, default: int) -> Option:
    return Option(
        "int",
        f"the {whose}'s gradient steps an iteration; 0: no update",
        default,
        low=0,
        high=10**4,
    )


OPTIONS: Mapping[str, Option] = {
    "backbone.finetune_mode": Option(
        "str",
        "what of the backbone is trained: a LoRA overlay, all of it, or nothing (actor and critic "
        "only)",
        "lora",
        choices=tuple(TRAINABLES),
    ),
    "reward.mode": Option(
        "str",
        "training reward: strict (0 or 1) or shaped (in [0, 1])",
        "strict",
        choices=("strict", "shaped"),
    ),
    "reward.passes_exponent": Option(
        "float",
        "the reward times ((G - passes + 1) / G) to this power, G being rollout.gen_len; 0: as it "
        "is",
        0.0,
        low=0.0,
        high=100.0,
        before=0.0,
    ),
    "objective.actor": Option(
        "str",
        "what the actor follows: policy_gradient, or soft_q (the original's)",
        "policy_gradient",
        choices=tuple(ACTORS),
    ),
    "objective.backbone": Option(
        "str",
        "tokens the backbone is led to: generated (its own) or reference (the original's)",
        "generated",
        choices=tuple(BACKBONES),
    ),
    "objective.advantage": Option(
        "str",
        "policy_gradient: what an episode is compared with: group (the prompt's other episodes) or "
        "critic (GAE)",
        "group",
        choices=("group", "critic"),
    ),
    "objective.advantage_decay": Option(
        "float", "advantage critic: lambda of GAE", 0.9, low=0.0, high=1.0
    ),
    "objective.advantage_scale": Option(
        "str",
        "advantage group: divided by one standard deviation for the iteration, or each group by "
        "its own",
        "iteration",
        choices=("iteration", "group"),
        before="iteration",
    ),
    "objective.advantage_floor": Option(
        "float",
        "least scale that advantages are divided by: where nothing is earned, the costs alone do "
        "not teach the policy with full force",
        0.1,
        low=0.0,
        high=100.0,
    ),
    # Each objective's own parameters, read where it is chosen.
    **{
        f"objective.{objective.name}.{name}": option
        for objective in (*ACTORS.values(), *BACKBONES.values())
        for name, option in objective.parameters().items()
    },
    "optimizer.actor_rate": _rate("actor", 3e-3),
    "optimizer.actor_final_rate": _final_rate("actor"),
    "optimizer.critic_rate": _rate("critic", 1e-3),
    "optimizer.backbone_rate": _rate("backbone", 1e-4),
    "optimizer.backbone_final_rate": _final_rate("backbone"),
    "optimizer.weight_decay": Option("float", "of AdamW", 0.01, low=0.0, high=10.0),
    "optimizer.gradient_clip": Option(
        "float", "bound on the global norm, of each of the three; 0: none", 1.0, low=0.0, high=1e4
    ),
    "train.iterations": Option("int", "rollouts and updates", 50, low=1, high=10**7),
    "train.episodes_per_iter": Option("int", "episodes an iteration", 32, low=1, high=10**6),
    "train.episodes_per_prompt": Option(
        "int",
        "episodes of the same prompt, which policy_gradient compares: 2 or more there",
        8,
        low=1,
        high=10**4,
    ),
    "train.order": Option(
        "strs",
        "the operators of the steps, in the place of the actor's picks, one for each; empty: the "
        "actor picks",
        (),
    ),
    "train.critic_steps": _steps("critic", 16),
    "train.actor_steps": _steps("actor", 16),
    "train.backbone_steps": _steps("backbone", 8),
    "train.head_batch": Option(
        "int", "transitions in an actor or critic minibatch", 256, low=1, high=10**6
    ),
    "train.backbone_batch": Option(
        "int", "transitions in a backbone minibatch", 16, low=1, high=10**6
    ),
    "train.backbone_accumulate": Option(
        "int", "microbatches that a backbone minibatch is cut into", 1, low=1, high=10**4
    ),
    "train.buffer_size": Option(
        "int", "episodes kept in replay, the oldest leave first", 800, low=1, high=10**7
    ),
}


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where the sizes or the actor's objective do not fit the episodes."""
    episodes, group = values["train.episodes_per_iter"], values["train.episodes_per_prompt"]
    if episodes % group:
        raise InputError(
            f"train.episodes_per_iter is {episodes};"
            f" expected a multiple of train.episodes_per_prompt, {group}"
        )
    ACTORS[values["objective.actor"]].check(values)
    if values["heads.policy"] == AnyPositions.name:
        _check_without_critic(values)
    if values["backbone.finetune_mode"] != Frozen.name and values["train.backbone_steps"]:
        BACKBONES[values["objective.backbone"]].check(values)
    order, max_steps = values["train.order"], values["rollout.max_steps"]
    names = values["operators.names"]
    if order and (len(order) != max_steps or not set(order) <= set(names)):
        raise InputError(
            f"train.order is {order}; expected nothing, or as many operators as rollout.max_steps, "
            f"{max_steps}, each one of {', '.join(names)}"
        )
    if order and values["train.actor_steps"]:
        raise InputError(
            f"train.actor_steps is {values['train.actor_steps']}; expected 0, for with train.order "
            "the actor picks nothing that it could learn from"
        )
    if values["train.backbone_batch"] % values["train.backbone_accumulate"]:
        raise InputError(
            f"train.backbone_batch is {values['train.backbone_batch']}; expected a multiple of"
            f" train.backbone_accumulate, {values['train.backbone_accumulate']}"
        )
    if values["train.buffer_size"] < episodes:
        raise InputError(
            f"train.buffer_size is {values['train.buffer_size']};"
            f" expected at least train.episodes_per_iter, {episodes}"
        )


def _check_without_critic(values: Mapping[str, Any]) -> None:
    """A policy over positions is compared with the prompt's other episodes, and by nothing else."""
    actor = values["objective.actor"]
    if ACTORS[actor].reads_q:
        others = ", ".join(name for name, one in ACTORS.items() if not one.reads_q)
        raise InputError(
            f"objective.actor is {actor}; expected one of {others}, for heads.policy positions has "
            "no critic to imitate"
        )
    for key, wanted, why in (
        ("objective.advantage", "group", "has no critic"),
        ("train.critic_steps", 0, "has no critic"),
        ("train.order", (), "picks no operators"),
    ):
        if values[key] != wanted:
            raise InputError(
                f"{key} is {values[key]}; expected {wanted}, for heads.policy positions {why}"
            )
