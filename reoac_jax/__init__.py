"""REOAC: an operator actor-critic that steers a masked-diffusion language model.

The names below are the public ones; each is imported when it is first asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from reoac_jax.devices.refused_settings import explain_refused_settings

if TYPE_CHECKING:
    from reoac_jax.backbone import ARCHITECTURES, load_backbone
    from reoac_jax.config import base, load_config
    from reoac_jax.evaluation.policies import POLICIES, Policy
    from reoac_jax.learning.objectives import actor_objectives, backbone_objectives
    from reoac_jax.learning.parts import load_parts
    from reoac_jax.learning.settings import LearnerSettings
    from reoac_jax.policy.operators import OPERATOR_TYPES
    from reoac_jax.rollout import RolloutSettings, run_rollout
    from reoac_jax.samplers import SAMPLERS
    from reoac_jax.solver import Solver
    from reoac_jax.tasks import TASKS

__version__ = "0.2.0"

__all__ = [
    "ARCHITECTURES",
    "LearnerSettings",
    "OPERATOR_TYPES",
    "POLICIES",
    "Policy",
    "RolloutSettings",
    "SAMPLERS",
    "Solver",
    "TASKS",
    "actor_objectives",
    "backbone_objectives",
    "base",
    "load_backbone",
    "load_config",
    "load_parts",
    "run_rollout",
]

_ROOMS = {
    "ARCHITECTURES": "backbone",
    "LearnerSettings": "learning.settings",
    "OPERATOR_TYPES": "policy.operators",
    "POLICIES": "evaluation.policies",
    "Policy": "evaluation.policies",
    "RolloutSettings": "rollout",
    "SAMPLERS": "samplers",
    "Solver": "solver",
    "TASKS": "tasks",
    "actor_objectives": "learning.objectives",
    "backbone_objectives": "learning.objectives",
    "base": "config",
    "load_backbone": "backbone",
    "load_config": "config",
    "load_parts": "learning.parts",
    "run_rollout": "rollout",
}

explain_refused_settings()  # a command's next imports may be of JAX


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
