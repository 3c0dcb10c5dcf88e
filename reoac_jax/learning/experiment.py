"""What a training run is made of: everything that does not change while it goes on."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from reoac_jax.devices import sharding
from reoac_jax.devices.streams import RunStream
from reoac_jax.learning.learner import Learner, LearnerState
from reoac_jax.learning.order import FixedOrder
from reoac_jax.learning.parts import Parts, adapted_base, starting_heads, starting_overlay
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.policy.heads import AppliesHeads, HeadParams
from reoac_jax.rollout import RolloutProgram
from reoac_jax.rollout.options import NO_CACHE
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import Task
from reoac_jax.tasks.problem_set import ProblemSet


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run's configuration with what it names, loaded and ready.

    learner: the updates, on the mesh of all devices of all processes. program: rollouts, on this
    process's own devices, `rollout_mesh`, or with `sharding.fsdp` on all, of which each holds a
    part of the backbone. base: the backbone's frozen parameters on the mesh; None where the state
    holds the only copy that is needed. start: the backbone's parameters before any training, for an
    objective that measures the distance from them, else None. key: all that is random derives from
    it.
    """

    config: ConfigDict
    parts: Parts
    task: Task
    problem_set: ProblemSet
    learner: Learner
    program: RolloutProgram
    rollout_mesh: Mesh
    base: Any
    start: Any
    key: jax.Array

    @classmethod
    def create(
        cls, config: ConfigDict, parts: Parts, task: Task, problem_set: ProblemSet
    ) -> "Experiment":
        """Puts the parts on the devices. Raises `InputError` where they do not fit those."""
        _check_fit(config)
        mesh, fsdp = sharding.make_mesh(), config.sharding.fsdp
        rollout_mesh = mesh if fsdp else sharding.make_mesh(jax.local_devices())
        settings = parts.rollout_settings(config)
        learner = Learner(
            parts.training_model(config), parts.heads, settings,
            LearnerSettings.from_config(config), mesh,
        )  # fmt: skip
        heads: AppliesHeads = parts.heads
        if config.train.order:
            places = map(config.operators.names.index, config.train.order)
            heads = FixedOrder(parts.heads, tuple(places))
        program = RolloutProgram(
            parts.model, heads, parts.vocabulary, settings, rollout_mesh,
            config.rollout.batch_size,
        )  # fmt: skip
        return cls(
            config=config,
            parts=parts,
            task=task,
            problem_set=problem_set,
            learner=learner,
            program=program,
            rollout_mesh=rollout_mesh,
            base=_base(parts, learner),
            start=_start(config, parts, learner),
            key=jax.random.key(config.seed),
        )

    def initial_state(self, *, resumed: bool = False) -> LearnerState:
        """The state before the first iteration, on the mesh.

        resumed: a checkpoint of this run takes its place, so that neither `lora.adapter` nor
        `heads.checkpoint` is read.
        """
        mode = self.config.backbone.finetune_mode
        overlay = None if resumed else starting_overlay(self.config, self.parts, mode)
        key = jax.random.fold_in(self.key, RunStream.INIT)
        state = self.learner.place(self.learner.init(key, self.parts.base, overlay))
        if resumed:
            return state
        return state._replace(heads=starting_heads(self.config, self.parts, state.heads))

    def policy(self, state: LearnerState) -> tuple[Any, HeadParams]:
        """The backbone's parameters and the heads, on the devices that make the rollouts."""
        params = self.learner.rollout_params(
            self.base, state.backbone, self.parts.model.cast_for_compute
        )
        heads = self.learner.rollout_heads(
            self.base, state.heads, self.parts.model.cast_for_compute
        )
        if self.rollout_mesh == self.learner.mesh:
            return params, heads
        return sharding.on_own_devices(self.rollout_mesh, (params, heads))


def _base(parts: Parts, learner: Learner) -> Any:
    """On the mesh, where something that is trained lies over it."""
    base = parts.base
    if not learner.settings.trainable.keeps_base:
        if not learner.critic_keeps_base:
            return None
        base = jax.tree.map(jnp.copy, base)  # the state takes the base as its own
    return sharding.place_parameters(learner.mesh, base, learner.settings.fsdp)


def _start(config: ConfigDict, parts: Parts, learner: Learner) -> Any:
    """On the mesh; a copy where the state takes the base as its own."""
    settings = learner.settings
    if settings.trainable.item is None or not settings.backbone.measures_start:
        return None
    start = adapted_base(config, parts)
    if not settings.trainable.keeps_base:
        start = jax.tree.map(jnp.copy, start)
    return sharding.place_parameters(learner.mesh, start, settings.fsdp)


def _check_fit(config: ConfigDict) -> None:
    if config.rollout.cache != NO_CACHE:
        raise InputError(
            f"rollout.cache is {config.rollout.cache}, which is for samplers and not exact; "
            f"expected {NO_CACHE} in training"
        )
    episodes = config.train.episodes_per_iter
    if episodes < jax.process_count():
        raise InputError(
            f"train.episodes_per_iter is {episodes}; expected at least one for each of the "
            f"{jax.process_count()} processes"
        )
