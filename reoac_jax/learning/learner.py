"""The three updates as jitted steps: critic, actor, backbone (DESIGN.md, section 10)."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from reoac_jax.backbone import lora
from reoac_jax.backbone.interface import DenoiserModule
from reoac_jax.backbone.likelihood import reference_log_probs
from reoac_jax.backbone.prediction import assemble_rows
from reoac_jax.devices import sharding
from reoac_jax.learning.accumulation import accumulated_gradient
from reoac_jax.learning.losses import (
    backbone_advantage,
    backbone_loss,
    critic_loss,
    policy_gradient_loss,
    position_shares,
    soft_q_loss,
)
from reoac_jax.learning.replay import BackboneBatch, HeadBatch
from reoac_jax.policy.heads import HeadParams, Heads
from reoac_jax.rollout import RolloutSettings, sigma_at


def initial_heads(heads: Heads, key: jax.Array) -> HeadParams:
    """Actor and critic as `Learner.init` of the same key draws them."""
    heads_key, _ = jax.random.split(key)
    return heads.init(heads_key)


class OptimizerStates(NamedTuple):
    """optax states; the backbone's is empty in mode `frozen`."""

    actor: Any
    critic: Any
    backbone: Any


class LearnerState(NamedTuple):
    """All that training changes.

    heads: actor and critic. backbone: the LoRA overlay, all backbone parameters, or {} by
    `finetune_mode`. optimizers: their AdamW states.
    """

    heads: HeadParams
    backbone: Any
    optimizers: OptimizerStates


@dataclasses.dataclass(frozen=True)
class LearnerSettings:
    """The static part of the updates, from a validated config; names as there."""

    finetune_mode: str
    lora_scale: float
    lora_targets: tuple[str, ...]
    lora_rank: int
    actor_objective: str
    actor_temperature: float
    clip_ratio: float
    entropy_weight: float
    advantage_positive: bool
    advantage_clip: float
    actor_rate: float
    critic_rate: float
    backbone_rate: float
    backbone_accumulate: int
    weight_decay: float
    gradient_clip: float
    fsdp: bool

    @classmethod
    def from_config(cls, config: ConfigDict) -> "LearnerSettings":
        objective, optimizer = config.objective, config.optimizer
        return cls(
            finetune_mode=config.backbone.finetune_mode,
            lora_scale=config.lora.alpha / config.lora.rank,
            lora_targets=tuple(config.lora.targets),
            lora_rank=config.lora.rank,
            actor_objective=objective.actor,
            actor_temperature=objective.soft_q.temperature,
            clip_ratio=objective.policy_gradient.clip_ratio,
            entropy_weight=objective.policy_gradient.entropy_weight,
            advantage_positive=objective[objective.backbone].advantage_positive,
            advantage_clip=objective[objective.backbone].advantage_clip,
            actor_rate=optimizer.actor_rate,
            critic_rate=optimizer.critic_rate,
            backbone_rate=optimizer.backbone_rate,
            backbone_accumulate=config.train.backbone_accumulate,
            weight_decay=optimizer.weight_decay,
            gradient_clip=optimizer.gradient_clip,
            fsdp=config.sharding.fsdp,
        )

    def optimizer(self, rate: float) -> optax.GradientTransformation:
        """AdamW behind a clip of the global norm; no clip if `gradient_clip` is 0."""
        adamw = optax.adamw(rate, weight_decay=self.weight_decay)
        if self.gradient_clip == 0:
            return adamw
        return optax.chain(optax.clip_by_global_norm(self.gradient_clip), adamw)


@dataclasses.dataclass(frozen=True)
class Learner:
    """`init`, then the three steps `(state, batch) -> (state, metrics)`; each donates the state.

    model: the backbone with the dropout rates of training. heads: actor and critic modules.
    rollout: for T, G, the pad token and sigma. settings: the rest. mesh: where `place` has put the
    state, and `sharding` the batches.
    """

    model: DenoiserModule
    heads: Heads
    rollout: RolloutSettings
    settings: LearnerSettings
    mesh: Mesh

    def init(self, key: jax.Array, base: Any, overlay: lora.Overlay | None = None) -> LearnerState:
        """A fresh state. base: the backbone's parameters; mode `full` takes them as its own, so
        that they are gone after the first backbone step. overlay: LoRA's start; None: a new one.

        Raises `InputError` where the LoRA targets or rank do not fit the backbone.
        """
        settings = self.settings
        heads = initial_heads(self.heads, key)
        _, lora_key = jax.random.split(key)
        backbone: Any = {}
        if settings.finetune_mode == "lora":
            backbone = overlay
            if overlay is None:
                backbone = lora.init(
                    lora_key, base, settings.lora_targets or self.model.lora_targets,
                    settings.lora_rank,
                )  # fmt: skip
        elif settings.finetune_mode == "full":
            backbone = base
        optimizers = OptimizerStates(
            actor=settings.optimizer(settings.actor_rate).init(heads.actor),
            critic=settings.optimizer(settings.critic_rate).init(heads.critic),
            backbone=settings.optimizer(settings.backbone_rate).init(backbone),
        )
        return LearnerState(heads, backbone, optimizers)

    def place(self, state: LearnerState) -> LearnerState:
        """The state on the mesh; with `fsdp` the backbone and its optimiser's state in parts."""
        actor, critic, opt = state.optimizers
        heads, actor, critic = sharding.replicate(self.mesh, (state.heads, actor, critic))
        put = sharding.split_parameters if self.settings.fsdp else sharding.replicate
        backbone, opt = put(self.mesh, (state.backbone, opt))
        return LearnerState(heads, backbone, OptimizerStates(actor, critic, opt))

    def rollout_params(self, base: Any, backbone: Any) -> Any:
        """The backbone's parameters for rollouts, LoRA merged in. base: None in mode `full`."""
        if self.settings.finetune_mode == "lora":
            return lora.merge(base, backbone, self.settings.lora_scale)
        return backbone if self.settings.finetune_mode == "full" else base

    def training_variables(self, base: Any, backbone: Any) -> dict[str, Any]:
        """Flax collections for the update; LoRA stays in the layers, split weights are gathered."""
        if self.settings.fsdp:
            backbone = sharding.gather_parameters(self.mesh, backbone)
        if self.settings.finetune_mode == "lora":
            return {"params": base, "lora": lora.collection(backbone, self.settings.lora_scale)}
        return {"params": backbone if self.settings.finetune_mode == "full" else base}

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def critic_step(
        self, state: LearnerState, batch: HeadBatch[jax.Array]
    ) -> tuple[LearnerState, dict[str, jax.Array]]:
        """One step of the critic towards the returns. metrics: critic_loss, before the step."""

        def loss_fn(critic: Any) -> jax.Array:
            q = self.heads.critic.apply({"params": critic}, batch.observation)
            return critic_loss(q, batch.operator, batch.returns, batch.weight)

        optimizer = self.settings.optimizer(self.settings.critic_rate)
        critic, opt, loss = _descend(
            loss_fn, state.heads.critic, optimizer, state.optimizers.critic
        )
        state = state._replace(
            heads=state.heads._replace(critic=critic),
            optimizers=state.optimizers._replace(critic=opt),
        )
        return state, {"critic_loss": loss}

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def actor_step(
        self, state: LearnerState, batch: HeadBatch[jax.Array]
    ) -> tuple[LearnerState, dict[str, jax.Array]]:
        """One step of the actor. metrics: actor_loss and the policy's entropy, before the step."""
        settings = self.settings
        q = self.heads.critic.apply({"params": state.heads.critic}, batch.observation)

        def loss_fn(actor: Any) -> tuple[jax.Array, jax.Array]:
            logits = self.heads.actor.apply({"params": actor}, batch.observation)
            gradient = policy_gradient_loss(
                logits, batch.chosen, batch.log_prob, batch.advantage, settings.clip_ratio,
                settings.entropy_weight, batch.actor_weight,
            )  # fmt: skip
            if settings.actor_objective == "policy_gradient":
                return gradient.loss, gradient.entropy
            loss = soft_q_loss(logits, q, settings.actor_temperature, batch.weight)
            return loss, gradient.entropy

        optimizer = self.settings.optimizer(settings.actor_rate)
        actor, opt, (loss, entropy) = _descend(
            loss_fn, state.heads.actor, optimizer, state.optimizers.actor, has_aux=True
        )
        state = state._replace(
            heads=state.heads._replace(actor=actor),
            optimizers=state.optimizers._replace(actor=opt),
        )
        return state, {"actor_loss": loss, "actor_entropy": entropy}

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def backbone_step(
        self, state: LearnerState, base: Any, batch: BackboneBatch[jax.Array], key: jax.Array
    ) -> tuple[LearnerState, dict[str, jax.Array]]:
        """One advantage-weighted denoising step of the LoRA overlay or of all weights.

        The gradient is that of the whole minibatch, summed in float32 over `backbone_accumulate`
        microbatches, which must divide it.

        Args:
          base: the frozen parameters, never changed; None in mode `full`.
          key: for dropout.

        Returns:
          The state, and backbone_loss before the step.
        """
        settings = self.settings
        rows, lengths = assemble_rows(
            batch.prompt, batch.prompt_length, batch.tokens, self.rollout.pad_id
        )
        sigma = sigma_at(batch.step, self.rollout)
        advantage = backbone_advantage(
            batch.advantage, settings.advantage_positive, settings.advantage_clip
        )

        share = position_shares(batch.written, batch.weight)

        def loss_fn(backbone: Any, part: tuple, part_key: jax.Array) -> jax.Array:
            rows, lengths, target, sigma, advantage, share = part
            log_probs = reference_log_probs(
                self.model, self.training_variables(base, backbone), rows, lengths, target, sigma,
                part_key, shares=self.mesh.size,
            )  # fmt: skip
            return backbone_loss(log_probs, advantage, share)

        parts = (rows, lengths, batch.target, sigma, advantage, share)
        loss, gradient = accumulated_gradient(
            loss_fn, state.backbone, parts, key, settings.backbone_accumulate
        )
        backbone, opt = _step(
            self.settings.optimizer(settings.backbone_rate), gradient, state.optimizers.backbone,
            state.backbone,
        )  # fmt: skip
        if settings.fsdp:
            backbone, opt = sharding.keep_split(self.mesh, (backbone, opt))
        state = state._replace(
            backbone=backbone, optimizers=state.optimizers._replace(backbone=opt)
        )
        return state, {"backbone_loss": loss}


def _descend(
    loss_fn: Any,
    params: Any,
    optimizer: optax.GradientTransformation,
    opt_state: Any,
    has_aux: bool = False,
) -> tuple[Any, Any, Any]:
    """One optimiser step; returns params, optimiser state, and loss (and aux)."""
    value, gradient = jax.value_and_grad(loss_fn, has_aux=has_aux)(params)
    return *_step(optimizer, gradient, opt_state, params), value


def _step(
    optimizer: optax.GradientTransformation,
    gradient: Any,
    opt_state: Any,
    params: Any,
) -> tuple[Any, Any]:
    """The parameters and the optimiser's state after a step along the gradient."""
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state
