"""`ancestral` without the forward passes of steps before which nothing changed."""

import dataclasses
from typing import ClassVar

from reoac_jax.rollout import RolloutSettings
from reoac_jax.samplers.ancestral import Ancestral
from reoac_jax.system.errors import InputError


@dataclasses.dataclass(frozen=True)
class AncestralCached(Ancestral):
    """`ancestral`, asking the backbone only after a change.

    Which positions are revealed does not depend on what was proposed for them, so that a kept
    proposal is as good a draw as a new one (not quite so with `skip_eos`).
    """

    name: ClassVar[str] = "ancestral_cached"
    source: ClassVar[str] = "Sahoo et al. 2024, arXiv 2406.07524 (its caching)"
    keeps_prediction: ClassVar[bool] = True

    def check(self, settings: RolloutSettings) -> None:
        super().check(settings)
        if settings.sees_step:
            raise InputError(
                f"{self.name} needs a backbone that does not see the step (rollout.sigma "
                "masked_share, or no time conditioning); this one does, so that a step that "
                "changed nothing still needs its forward pass"
            )
