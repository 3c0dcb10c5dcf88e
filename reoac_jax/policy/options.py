"""The keys of the policy: what the actor sees, what its operators select, its heads."""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reoac_jax.config.parameters import nearest
from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import TASKS

if TYPE_CHECKING:
    from reoac_jax.policy.operators import Operator


NO_CHECKPOINT = "none"  # of the key heads.checkpoint


def _widths(whose: str) -> Option:
    return Option("ints", f"widths of the {whose}'s hidden layers", (256, 256), low=1, high=8192)


OPTIONS: Mapping[str, Option] = {
    "rollout.scope_anchor": Option(
        "str",
        "where a window lies: at the frontier (the first masked position) or the end of the row "
        "(the original's)",
        "frontier",
        choices=("frontier", "end"),
    ),
    "features.relation_temperature": Option(
        "float", "of the relation's softmax", 1.0, low=1e-4, high=100.0
    ),
    "features.use_hidden": Option(
        "bool", "append the mean hidden state to what actor and critic see", False
    ),
    "features.extra_features": Option("bool", "append progress and confidence statistics", True),
    "features.operator_preview": Option(
        "bool", "append what each operator would reveal, and how surely", True
    ),
    "features.notation": Option(
        "bool",
        "append what the row says in the task's notation, as it stands and filled in: whether its "
        "equations parse and hold, and use what the prompt gives (no reference is read)",
        False,
        before=False,
    ),
    "operators.names": Option(
        "strs",
        "what the actor chooses from, in the order of the heads' outputs; only "
        "the parameters of these have an effect",
        ("O_NUM", "O_OP", "O_SCOPE", "O_NEXT", "O_FAST", "O_CONFIDENT"),
    ),
    "heads.reads": Option(
        "str",
        "what actor and critic see: features (the original's), or also the rows: hidden state, "
        "proposed token, confidence, entropy and mask of each position",
        "features",
        choices=("features", "rows"),
        before="features",
    ),
    "heads.policy": Option(
        "str",
        "what the actor chooses at a step: one of the operators, or any of the masked positions, "
        "by a small transformer over their confidences (arXiv 2512.09106) and what else is "
        "switched on, without a critic",
        "operators",
        choices=("operators", "positions"),
        before="operators",
    ),
    "heads.critic": Option(
        "str",
        "what the critic is: a head of its own over what the actor sees, or a copy of the backbone "
        "with a value for each operator, which reads the row with its proposals filled in and "
        "makes a pass of its own in each step of a rollout",
        "head",
        choices=("head", "backbone"),
        before="head",
    ),
    "heads.checkpoint": Option(
        "str",
        "none, or a checkpoint of a run, over this or another backbone, whose actor and critic "
        "training starts from",
        NO_CHECKPOINT,
        before=NO_CHECKPOINT,
    ),
    "heads.actor_hidden": _widths("actor"),
    "heads.critic_hidden": _widths("critic"),
}
# What a configuration has besides where heads.policy is positions.
POSITIONS: Mapping[str, Option] = {
    "heads.positions.width": Option(
        "int", "of its block; a multiple of attention_heads", 128, low=1, high=4096
    ),
    "heads.positions.mlp_width": Option("int", "of the block's MLP", 768, low=1, high=16384),
    "heads.positions.attention_heads": Option("int", "of the block", 4, low=1, high=64),
    "heads.positions.start": Option(
        "float",
        "chance with which the untrained policy reveals a masked position",
        0.5,
        low=0.001,
        high=0.999,
    ),
    "heads.positions.start_decay": Option(
        "float",
        "what the log odds of that chance are less by for each masked position that comes before "
        "in start_order; 0: the untrained policy has no order",
        0.0,
        low=0.0,
        high=10.0,
        before=0.0,
    ),
    "heads.positions.start_order": Option(
        "str",
        "the order of that start: left, from left to right, or numbers, the numbers, the surest "
        "first, and then the rest, where the policy also sees which tokens are numbers",
        "left",
        choices=("left", "numbers"),
        before="left",
    ),
}
# What a configuration has besides where heads.critic is backbone.
BACKBONE_CRITIC: Mapping[str, Option] = {
    "heads.backbone.mode": Option(
        "str",
        "what of the copy is trained beside its values: all weights (full), or a LoRA overlay of "
        "the rank, alpha and targets of the section lora",
        "full",
        choices=("full", "lora"),
    ),
}
# What a configuration has besides where heads.reads is rows.
ROWS: Mapping[str, Option] = {
    "heads.rows.width": Option(
        "int", "of the encoder of rows; a multiple of attention_heads", 64, low=1, high=4096
    ),
    "heads.rows.layers": Option("int", "its blocks of attention", 2, low=1, high=8),
    "heads.rows.attention_heads": Option("int", "of each block", 4, low=1, high=64),
    "heads.rows.token_rows": Option(
        "int",
        "rows of its table of tokens; of a larger vocabulary two of them, hashed, make a token",
        4096,
        low=1,
        high=10**6,
    ),
    "heads.rows.keep_bytes": Option(
        "int",
        "most that the hidden states of an iteration's episodes may take in memory; where they "
        "would take more, and of older episodes, they are computed again from the tokens",
        2**30,
        low=0,
        high=2**50,
    ),
}
# Those three, by the key and the choice that brings them.
FURTHER: Mapping[tuple[str, str], Mapping[str, Option]] = {
    ("heads.reads", "rows"): ROWS,
    ("heads.policy", "positions"): POSITIONS,
    ("heads.critic", "backbone"): BACKBONE_CRITIC,
}


def options(values: Mapping[str, Any]) -> Mapping[str, Option]:
    """The parameters of the operators that `operators.names` lists, and of what reads rows.

    Raises `InputError` where it lists none, one twice, or one that there is not.
    """
    types, names = _operator_types(), values["operators.names"]
    if not names or len(set(names)) < len(names):
        raise InputError(f"operators.names is {names}; expected one operator or more, each once")
    for name in names:
        if name not in types:
            raise InputError(
                f"operators.names has {name!r}{nearest(name, types)}; expected some of "
                f"{', '.join(types)}"
            )
    return {**_parameters(names), **_of_heads(values)[0]}


def unused(values: Mapping[str, Any]) -> Collection[str]:
    """The parameters of operators that `operators.names` does not list, of rows unread, and of a
    policy that is not chosen."""
    others = (name for name in _operator_types() if name not in values["operators.names"])
    return [*_parameters(others), *_of_heads(values)[1]]


def _of_heads(values: Mapping[str, Any]) -> tuple[dict[str, Option], dict[str, Option]]:
    """What the section `heads` has besides, and what it would have by other choices."""
    present: dict[str, Option] = {}
    absent: dict[str, Option] = {}
    for (key, choice), own in FURTHER.items():
        (present if values[key] == choice else absent).update(own)
    return present, absent


def _parameters(names: Iterable[str]) -> dict[str, Option]:
    return {
        f"operators.{name}.{key}": option
        for name in names
        for key, option in _operator_types()[name].parameters().items()
    }


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where the listed operators, or the heads' sizes, do not fit, or where the
    task has no notation that could be seen."""
    names, fallback = values["operators.names"], values["rollout.fallback_operator"]
    plain = [name for name in names if not _operator_types()[name].branches]
    if fallback not in plain:
        raise InputError(
            f"rollout.fallback_operator is {fallback!r}; expected one of {', '.join(plain)} "
            "(operators.names has no other that does not branch)"
        )
    if values["rollout.branch_k"] > len(plain):
        raise InputError(
            f"rollout.branch_k is {values['rollout.branch_k']}; expected at most {len(plain)}, as "
            "many operators as operators.names has that do not branch"
        )
    if values["features.notation"]:
        task = values["task.name"]
        if TASKS[task].notation is None:
            able = ", ".join(name for name, one in TASKS.items() if one.notation is not None)
            raise InputError(
                f"features.notation is True, but answers of {task} have no notation that can be "
                f"read without a reference; expected False, or one of the tasks {able}"
            )
        if values.get("task.backwards"):
            raise InputError(
                "features.notation is True and task.backwards True; expected one of them False: "
                "what reads the notation expects an equation's result behind it"
            )
    if values["heads.policy"] == "positions":
        _check_positions(values)
    if values["heads.critic"] == "backbone":
        _check_backbone_critic(values)
    for section in ("heads.rows", "heads.positions"):
        width, parts = (values.get(f"{section}.{key}", 1) for key in ("width", "attention_heads"))
        if width % parts:
            raise InputError(
                f"{section}.width is {width}; expected a multiple of {section}.attention_heads, "
                f"{parts}"
            )


def _check_backbone_critic(values: Mapping[str, Any]) -> None:
    if values["sharding.fsdp"]:
        raise InputError(
            "heads.critic is backbone and sharding.fsdp True; expected False, for a critic that is "
            "a backbone lies whole on every device, or heads.critic head"
        )
    exponent = values["reward.passes_exponent"]
    if exponent > 0:
        raise InputError(
            f"heads.critic is backbone and reward.passes_exponent {exponent}; expected 0, for the "
            "critic's passes would count in the reward and no evaluation makes them, or "
            "heads.critic head"
        )
    dtype = values["backbone.param_dtype"]
    if values.get("heads.backbone.mode") == "full" and dtype != "float32":
        raise InputError(
            f"heads.backbone.mode is full and backbone.param_dtype {dtype}; expected mode lora, or "
            "float32, in which weights are trained"
        )


def _check_positions(values: Mapping[str, Any]) -> None:
    for key, wanted, why in (
        ("rollout.update_rule", "denoise", "reveals masked positions and rewrites none"),
        ("rollout.repair_tokens", 0, "reveals masked positions and masks none again"),
        ("rollout.branch_k", 0, "has no operators that a look-ahead could compare"),
        ("features.operator_preview", False, "has no operators to look at"),
        ("features.use_hidden", False, "sees hidden states by heads.reads rows alone"),
        ("heads.critic", "head", "has no critic"),
    ):
        if values[key] != wanted:
            raise InputError(
                f"{key} is {values[key]}; expected {wanted}, for heads.policy positions {why}"
            )


def _operator_types() -> Mapping[str, "type[Operator]"]:
    # Imported late: it takes JAX, and this file is read by commands that do without.
    from reoac_jax.policy.operators import OPERATOR_TYPES

    return OPERATOR_TYPES
