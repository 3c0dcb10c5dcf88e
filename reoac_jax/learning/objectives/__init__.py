"""What the actor and the backbone follow: an objective a file, found by listing this folder.

A new one is a new file here (docs/extending.md): `objective.actor` or `objective.backbone` names
it, and its settings are the keys `objective.<name>.*`.
"""

import sys
from collections.abc import Mapping

from reoac_jax.config.parameters import members
from reoac_jax.learning.objectives.base import ActorObjective, BackboneObjective, Loss, Objective

__all__ = [
    "ActorObjective",
    "BackboneObjective",
    "Loss",
    "Objective",
    "actor_objectives",
    "backbone_objectives",
]


def actor_objectives() -> Mapping[str, type[ActorObjective]]:
    """By name."""
    return members(sys.modules[__name__], ActorObjective)  # type: ignore[type-abstract]


def backbone_objectives() -> Mapping[str, type[BackboneObjective]]:
    """By name."""
    return members(sys.modules[__name__], BackboneObjective)  # type: ignore[type-abstract]
