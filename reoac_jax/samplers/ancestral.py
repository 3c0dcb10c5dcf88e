"""MDLM's own sampler: every masked position has the same chance."""

import dataclasses
from typing import ClassVar

import jax

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.config.parameters import parameter
from reoac_jax.samplers.interface import Move, ScheduledSampler, View


@dataclasses.dataclass(frozen=True)
class Ancestral(ScheduledSampler):
    """From time t to s each masked position is revealed with chance (t - s) / t.

    With equal steps that is 1 / (steps left). Tokens are drawn at temperature 1, whatever the
    configuration says: it is a sampler of the model's own distribution. With `skip_eos` a step at
    which every proposal ends the text reveals all of them: the quota, here an expected one, counts
    only the other positions. (A coin that depended on a position's own proposal would draw anew
    until it liked the token, and so change the distribution.)
    """

    name: ClassVar[str] = "ancestral"
    source: ClassVar[str] = "Sahoo et al. 2024, arXiv 2406.07524, equation 6, log-linear schedule"

    skip_eos: bool = parameter(False, "a step at which every proposal is eos reveals all")

    def draw(self, configured: DrawSettings) -> DrawSettings:
        return dataclasses.replace(configured, strategy="sample", temperature=1.0)

    def step(self, view: View) -> Move:
        chance = 1.0 / view.steps_left
        reveal = view.masked & (jax.random.uniform(view.key, view.masked.shape) < chance)
        if self.skip_eos:
            reveal |= view.masked & ~(view.masked & ~view.ends).any()
        return Move(reveal)
