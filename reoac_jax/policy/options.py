"""The keys of the policy: what the actor sees, what its operators select, its heads."""

from collections.abc import Mapping

from reoac_jax.config.schema import Option


def _cost(default: float) -> Option:
    return Option("float", "cost of a step", default, low=0.0, high=100.0)


def _window(default: int) -> Option:
    return Option("int", "positions in the window", default, low=1, high=4096)


def _last() -> Option:
    return Option("int", "positions selected at most", 16, low=1, high=4096)


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
    "operators.O_NUM.max_tokens": _last(),
    "operators.O_NUM.cost": _cost(1.2),
    "operators.O_OP.max_tokens": _last(),
    "operators.O_OP.cost": _cost(1.1),
    "operators.O_SCOPE.scope_len": _window(32),
    "operators.O_SCOPE.cost": _cost(1.0),
    "operators.O_BRANCH.scope_len": _window(32),
    "operators.O_BRANCH.cost": _cost(2.0),
    "operators.O_BRANCH.branch_depth": Option(
        "float", "added to the cost", 1.0, low=0.0, high=100.0
    ),
    "operators.O_FAST.scope_len": _window(64),
    "operators.O_FAST.step_scale": Option(
        "float", "factor on the tokens revealed a step", 1.5, low=0.01, high=100.0
    ),
    "operators.O_FAST.cost": _cost(1.5),
    "operators.O_FAST.extra_cost": Option("float", "added to the cost", 0.5, low=0.0, high=100.0),
    "heads.actor_hidden": _widths("actor"),
    "heads.critic_hidden": _widths("critic"),
}
