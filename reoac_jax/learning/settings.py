"""What of the updates is static: what is trained, what it follows, and the optimisers."""

import dataclasses

import optax
from ml_collections import ConfigDict

from reoac_jax.learning.objectives import (
    ActorObjective,
    BackboneObjective,
    actor_objectives,
    backbone_objectives,
)
from reoac_jax.learning.optimizer import clipped_adamw
from reoac_jax.learning.trainable import Trainable, critic_trainable, trainable


@dataclasses.dataclass(frozen=True)
class LearnerSettings:
    """The static part of the updates, from a validated config.

    trainable: what of the backbone is trained. critic: what of a critic that is one; None: it is a
    head. actor, backbone: what they follow. rows_at_a_time:
    rows that a device passes through the backbone together where their hidden states are computed
    again. actor_steps, backbone_steps: gradient steps of the whole run. The rest is named as in the
    sections `optimizer`, `train` and `sharding`.
    """

    trainable: Trainable
    actor: ActorObjective
    backbone: BackboneObjective
    actor_rate: float
    critic_rate: float
    backbone_rate: float
    backbone_accumulate: int
    weight_decay: float
    gradient_clip: float
    fsdp: bool
    rows_at_a_time: int = 32
    critic: Trainable | None = None
    actor_final_rate: float = 1.0
    actor_steps: int = 1
    backbone_final_rate: float = 1.0
    backbone_steps: int = 1

    @classmethod
    def from_config(cls, config: ConfigDict) -> "LearnerSettings":
        objective, optimizer = config.objective, config.optimizer
        return cls(
            trainable=trainable(config.backbone.finetune_mode, config),
            critic=critic_trainable(config),
            actor=actor_objectives()[objective.actor].from_config(objective),
            backbone=backbone_objectives()[objective.backbone].from_config(objective),
            actor_rate=optimizer.actor_rate,
            critic_rate=optimizer.critic_rate,
            backbone_rate=optimizer.backbone_rate,
            actor_final_rate=optimizer.actor_final_rate,
            actor_steps=config.train.iterations * config.train.actor_steps,
            backbone_final_rate=optimizer.backbone_final_rate,
            backbone_steps=config.train.iterations * config.train.backbone_steps,
            backbone_accumulate=config.train.backbone_accumulate,
            weight_decay=optimizer.weight_decay,
            gradient_clip=optimizer.gradient_clip,
            fsdp=config.sharding.fsdp,
            rows_at_a_time=config.rollout.batch_size,
        )

    def optimizer(self, rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        """Of an update with this rate."""
        return clipped_adamw(rate, self.weight_decay, self.gradient_clip)

    @property
    def actor_optimizer(self) -> optax.GradientTransformation:
        """Of the actor's update."""
        return self.optimizer(_falling(self.actor_rate, self.actor_final_rate, self.actor_steps))

    @property
    def backbone_optimizer(self) -> optax.GradientTransformation:
        """Of the backbone's update."""
        return self.optimizer(
            _falling(self.backbone_rate, self.backbone_final_rate, self.backbone_steps)
        )


def _falling(rate: float, final: float, steps: int) -> optax.ScalarOrSchedule:
    """A rate that falls in a line to the share `final` of itself at the last of `steps` steps."""
    if final == 1.0:
        return rate
    return optax.linear_schedule(rate, rate * final, max(steps - 1, 1))
