"""Rollouts: the denoising loop under the operator policy, as one jitted program."""

from reoac_jax.rollout.loop import backbone_denoiser, rollout
from reoac_jax.rollout.program import (
    BatchedProgram,
    BatchResult,
    Request,
    RolloutProgram,
    in_order,
    run_rollout,
)
from reoac_jax.rollout.settings import RolloutSettings
from reoac_jax.rollout.sigma import sigma_of
from reoac_jax.rollout.types import (
    Candidates,
    DenoiseFn,
    Generated,
    HeadsFn,
    KeepingDenoiser,
    Prompts,
    Rollout,
    StepWatcher,
    Trajectory,
)

__all__ = [
    "BatchResult",
    "BatchedProgram",
    "Candidates",
    "DenoiseFn",
    "Generated",
    "HeadsFn",
    "KeepingDenoiser",
    "Prompts",
    "Request",
    "Rollout",
    "RolloutProgram",
    "RolloutSettings",
    "StepWatcher",
    "Trajectory",
    "backbone_denoiser",
    "in_order",
    "rollout",
    "run_rollout",
    "sigma_of",
]
