"""What each group of ablations changes, and under which policies it is compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from frontier.grids import ACTORS, CHECKED, WRITERS
from reoac_jax.evaluation.policies import ACTOR


class Variants(NamedTuple):
    """policies: that are evaluated, a row each. columns: what is kept of the first and the last
    iteration's metrics, and listed of the last. changes: the keys that a variant changes, by what
    that is in words. rules: that the backbone as it was is evaluated under; every row is compared
    with the best of them, and of mixtures of two, at its mean passes. checked: further ones, that
    read the task's notation; the row is compared with these among the rules, too. base: keys that
    are changed for all of them, rules included. unseen: what the critic explains of the problems
    that are evaluated is measured too, where the backbone has learned on those of the training."""

    policies: tuple[str, ...]
    columns: tuple[str, ...]
    changes: Mapping[str, Mapping[str, Any]]
    rules: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    base: Mapping[str, Any] = {}
    unseen: bool = False


# What the critic, and beside it the actor, knows of the text. Critics that see more have more to
# learn, and take more steps, on fewer transitions each.
_LONGER: Mapping[str, Any] = {
    "train.critic_steps": 64, "train.head_batch": 512, "train.buffer_size": 1152,
}  # fmt: skip
_COPY: Mapping[str, Any] = {
    "heads.critic": "backbone", "train.head_batch": 256, "optimizer.critic_rate": 3e-4,
}  # fmt: skip
# The value of the order in which the backbone is trained, from as many problems as can be had: one
# an episode, four iterations' episodes in the buffer.
_ALONE: Mapping[str, Any] = {
    **_LONGER, "backbone.finetune_mode": "frozen", "objective.actor": "soft_q",
    "train.episodes_per_iter": 1152, "train.episodes_per_prompt": 1, "train.buffer_size": 4608,
    "train.iterations": 16,
}  # fmt: skip
# Its value where the backbone has learned from its own denoising: two tokens a pass, from the left.
_OVER_TRAINED: Mapping[str, Any] = {
    **_ALONE, "rollout.max_steps": 6, "train.order": (), "operators.names": ("O_SCOPE",),
}  # fmt: skip
# The trained model's own confidence decides how much a step reveals: all above 0.7, one at least.
_GATED: Mapping[str, Any] = {
    "rollout.max_steps": 20, "train.order": ("O_FAST",) * 20, "train.backbone_steps": 5,
    "operators.O_FAST.scope_len": 20, "operators.O_FAST.step_scale": 1.0,
    "operators.O_FAST.threshold": 0.7, "train.iterations": 20,
}  # fmt: skip
_ACTOR_COLUMNS = ("explained_variance", "operator_shares")
_THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99)
_RULES = (
    *(f"threshold:threshold={t},block_len=0" for t in _THRESHOLDS),
    *(f"schedule:counts={c}" for c in ("1-1-1-1-1-2", "1-1-2-2-2", "2-2-2-2")),
)  # fmt: skip
_CHECKED = tuple(
    f"{CHECKED}:passes={passes},sampler={writer}"
    for writer in (WRITERS[-1], "schedule:counts=1-1-1-1-1-2")
    for passes in (8, 11, 14, 17, 21)
)
# Values of a row, if it ends now, from which on it does; of a complete one, below which it goes on.
_ENDS = tuple(f"{ACTOR}:stop_value={v}" for v in (0.8, 0.9, 0.95))
_AGAIN = (
    *(f"{ACTOR}:remask_value=0.5,remask_share={s},passes=21" for s in (0.5, 1.0)),
    f"{ACTOR}:remask_value=0.5,passes=32",
)
# Rules that take more passes than the others: operators that reveal by confidence.
_LONG = (
    "O_NUM", "O_SCOPE", "O_SCOPE:threshold=0.9", "margin:steps=10,skip_eos=true",
    "klass:block_len=0,threshold=0.9,stable=0.01",
)  # fmt: skip
GROUPS = {
    "choices": Variants(
        (ACTOR,),
        _ACTOR_COLUMNS,
        {
            "as configured": {},
            "original objective: soft_q, temperature 1": {"objective.actor": "soft_q"},
            "soft_q, temperature 0.02": {
                "objective.actor": "soft_q", "objective.soft_q.temperature": 0.02,
            },
            "advantage by the critic (GAE, lambda 0.9)": {"objective.advantage": "critic"},
            "no entropy bonus": {"objective.policy_gradient.entropy_weight": 0.0},
            "entropy weight 0.03": {"objective.policy_gradient.entropy_weight": 0.03},
            "4 episodes a prompt instead of 12": {"train.episodes_per_prompt": 4},
            "shaped reward": {"reward.mode": "shaped"},
            "relation temperature 0.1": {"features.relation_temperature": 0.1},
            "without progress and confidence": {"features.extra_features": False},
            "without the operators' preview": {"features.operator_preview": False},
            "11 features alone": {
                "features.extra_features": False, "features.operator_preview": False,
            },
            "with the pooled hidden state": {"features.use_hidden": True},
            "O_SCOPE a window of 2 positions": {"operators.O_SCOPE.scope_len": 2},
            "rows of 13: the answer's length is known": {"rollout.gen_len": 13},
        },
    ),
    "critic": Variants(
        (ACTOR, *_ENDS),
        ("explained_variance", "explained_variance_by_step", "critic_loss"),
        {
            "features": _LONGER,
            "features and notation": {**_LONGER, "features.notation": True},
            "a copy of the backbone, all weights": {
                **_LONGER, **_COPY, "train.critic_steps": 32,
            },
            "features and notation, advantages by the critic (GAE)": {
                **_LONGER, "features.notation": True, "objective.advantage": "critic",
            },
        },
        _RULES,
    ),
    "value": Variants(
        (
            ACTOR,
            *_ENDS,
            *_AGAIN,
            f"{ACTOR}:stop_value=0.8,remask_value=0.5,passes=21",
            f"{ACTOR}:stop_value=0.8,remask_value=0.5,passes=32",
        ),
        ("explained_variance", "explained_variance_by_step", "critic_loss"),
        {
            "features and notation": {**_LONGER, "features.notation": True},
            "features": _LONGER,
        },
        (*_RULES, *_LONG),
        _CHECKED,
        ACTORS["bold T20 0.03"],
    ),
    "critic_alone": Variants(
        (),
        ("explained_variance", "explained_variance_by_step", "critic_loss", "accuracy"),
        {
            "features": _ALONE,
            "features and notation": {**_ALONE, "features.notation": True},
            "a copy of the backbone, all weights": {**_ALONE, **_COPY},
            "rows": {**_ALONE, "heads.reads": "rows"},
            "features and the pooled hidden state": {**_ALONE, "features.use_hidden": True},
            "features, notation and the pooled hidden state": {
                **_ALONE, "features.notation": True, "features.use_hidden": True,
            },
        },
    ),
    "trained": Variants(
        (
            ACTOR,
            *(f"{ACTOR}:remask_value=0.5,passes={passes}" for passes in (12, 18, 24)),
            *_ENDS,
            *(f"{_ENDS[0]},remask_value=0.5,passes={passes}" for passes in (12, 18, 24)),
        ),
        ("explained_variance_by_step", "critic_loss", "accuracy"),
        {
            "features": {},
            "features and notation": {"features.notation": True},
            "features, notation and the pooled hidden state": {
                "features.notation": True, "features.use_hidden": True,
            },
        },
        (
            *_RULES[-3:], "threshold:threshold=0.9,block_len=0",
            *(
                f"schedule:counts={c}"
                for c in ("4-4", "3-3-3", "2-2-4", "1-2-2-2-2", "2-2", "2-2-2", "1-2-2-2", "2-2-3")
            ),
        ),
        tuple(
            f"{CHECKED}:passes={passes},sampler=schedule:counts=2-2-2-2"
            for passes in (5, 10, 15, 20, 25)
        ),
        _OVER_TRAINED,
        unseen=True,
    ),
    "advantage": Variants(
        ("schedule:counts=1-1-1-1-1-2",),
        ("accuracy", "explained_variance", "explained_variance_by_step", "backbone_entropy"),
        {
            "relative to the prompt's other episodes": {},
            "by a critic of features and notation (GAE)": {
                "objective.advantage": "critic", "features.notation": True,
                "train.critic_steps": 32, "train.head_batch": 512,
            },
        },
    ),
    "few_passes": Variants(
        ("schedule:counts=4-4",),
        ("accuracy", "backbone_entropy", "backbone_confidence"),
        {
            "as configured": {},
            "entropy weight 0.01": {"objective.trajectory.entropy_weight": 0.01},
            "one scale of advantages an iteration": {"objective.advantage_scale": "iteration"},
            "a constant rate": {"optimizer.backbone_final_rate": 1.0},
            "16 episodes a prompt instead of 8": {"train.episodes_per_prompt": 16},
            "KL weight 0.01": {"objective.trajectory.kl_weight": 0.01},
        },
    ),
    "gate": Variants(
        ("threshold:threshold=0.7,block_len=0", "schedule:counts=1-1-1-1-1-2"),
        ("accuracy", "forward_passes", "backbone_confidence", "backbone_entropy"),
        {
            "its own gate": _GATED,
            "and KL weight 0.03": {**_GATED, "objective.trajectory.kl_weight": 0.03},
            "and KL weight 0.1": {**_GATED, "objective.trajectory.kl_weight": 0.1},
            "and entropy weight 0.01": {**_GATED, "objective.trajectory.entropy_weight": 0.01},
            "and entropy weight 0.03": {**_GATED, "objective.trajectory.entropy_weight": 0.03},
            "a fixed order": {"train.iterations": 20},
        },
        _RULES,
    ),
}  # fmt: skip
