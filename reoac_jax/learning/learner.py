"""The three updates as jitted steps: critic, actor, backbone (DESIGN.md, section 10)."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from reoac_jax.backbone import lora
from reoac_jax.backbone.likelihood import Rows, token_statistics
from reoac_jax.backbone.module import DenoiserModule
from reoac_jax.backbone.prediction import assemble_rows
from reoac_jax.devices import sharding
from reoac_jax.learning.accumulation import accumulated_gradient
from reoac_jax.learning.critic_backbone import applied_critic, rollout_critic, start_critic
from reoac_jax.learning.hidden import hidden_states
from reoac_jax.learning.losses import critic_loss, mean, position_shares
from reoac_jax.learning.replay import BackboneBatch, HeadBatch
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.learning.trainable import Trainable, as_they_are
from reoac_jax.policy.distributions import among_legal
from reoac_jax.policy.heads import HeadParams, Heads
from reoac_jax.policy.observation import Observation, with_hidden, with_prompt
from reoac_jax.rollout import RolloutSettings, sigma_of

Metrics = dict[str, jax.Array]


def initial_heads(
    heads: Heads, critic: Trainable | None, key: jax.Array, base: Any, targets: Sequence[str] = ()
) -> HeadParams:
    """Actor and critic as `Learner.init` of the same key draws them.

    critic: what of it is trained, as in `LearnerSettings`; with the base's parameters and the
    matrices that get an overlay where none are set.
    """
    heads_key, _ = jax.random.split(key)
    critic_key = jax.random.fold_in(heads_key, 2)  # 0 and 1 are what `split` gives the heads
    return start_critic(critic, heads.init(heads_key), critic_key, base, targets)


class OptimizerStates(NamedTuple):
    """optax states; the backbone's is empty where nothing of it is trained."""

    actor: Any
    critic: Any
    backbone: Any


class LearnerState(NamedTuple):
    """All that training changes.

    heads: actor and critic. backbone: the trained weights, as the `Trainable` has them.
    optimizers: their AdamW states.
    """

    heads: HeadParams
    backbone: Any
    optimizers: OptimizerStates


@dataclasses.dataclass(frozen=True)
class Learner:
    """`init`, then the three steps `(state, batch, real) -> (state, metrics)`.

    Each step donates the state. real: float32 `[N]`, 1 for the batch's own entries and 0 for its
    padding, as `sharding.split_padded` gives it. base: the backbone's frozen parameters, never
    changed; None where nothing that is trained lies over it, and to the heads' steps unless
    `heads_read_base`.

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
        """A fresh state. base: the backbone's parameters; where all weights are trained they become
        the state's own, so that they are gone after the first backbone step. overlay: LoRA's start;
        None: a new one.

        Raises `InputError` where the LoRA targets or rank do not fit the backbone.
        """
        settings, targets = self.settings, self.model.lora_targets
        heads = initial_heads(self.heads, settings.critic, key, base, targets)
        _, backbone_key = jax.random.split(key)
        backbone = settings.trainable.init(backbone_key, base, targets, overlay)
        optimizers = OptimizerStates(
            actor=settings.actor_optimizer.init(heads.actor),
            critic=settings.optimizer(settings.critic_rate).init(heads.critic),
            backbone=settings.backbone_optimizer.init(backbone),
        )
        return LearnerState(heads, backbone, optimizers)

    def place(self, state: LearnerState) -> LearnerState:
        """The state on the mesh; with `fsdp` the backbone and its optimiser's state in parts."""
        actor, critic, opt = state.optimizers
        heads, actor, critic = sharding.replicate(self.mesh, (state.heads, actor, critic))
        backbone, opt = sharding.place_parameters(
            self.mesh, (state.backbone, opt), self.settings.fsdp
        )
        return LearnerState(heads, backbone, OptimizerStates(actor, critic, opt))

    def rollout_params(
        self, base: Any, backbone: Any, finish: Callable[[Any], Any] = as_they_are
    ) -> Any:
        """The backbone's parameters for rollouts, an overlay merged in. finish: as in
        `Trainable.merged`.
        """
        return self.settings.trainable.merged(base, backbone, finish)

    def rollout_heads(
        self, base: Any, heads: HeadParams, finish: Callable[[Any], Any] = as_they_are
    ) -> HeadParams:
        """Actor and critic for rollouts, an overlay of the critic merged in. finish: likewise."""
        return rollout_critic(self.settings.critic, base, heads, finish)

    @property
    def critic_keeps_base(self) -> bool:
        """Whether a critic is an overlay of the base's frozen parameters."""
        critic = self.settings.critic
        return critic is not None and critic.keeps_base

    @property
    def heads_read_base(self) -> bool:
        """Whether the heads' steps need the base: for hidden states, or for a critic's overlay."""
        return self.heads.rows is not None or self.critic_keeps_base

    def values(self, critic: Any, seen: Observation[jax.Array], base: Any) -> jax.Array:
        """Q, float32 `[N, A]`, by the critic's trained parameters, of what the modules take."""
        assert self.heads.critic is not None
        params = applied_critic(self.settings.critic, base, critic)
        return self.heads.critic.apply({"params": params}, seen)

    def training_variables(self, base: Any, backbone: Any) -> dict[str, Any]:
        """Flax collections for the update; LoRA stays in the layers, split weights are gathered."""
        if self.settings.fsdp:
            base, backbone = sharding.gather_parameters(self.mesh, (base, backbone))
        return self.settings.trainable.variables(base, backbone)

    def observed(
        self, state: LearnerState, batch: HeadBatch[jax.Array], base: Any
    ) -> Observation[jax.Array]:
        """What was observed, rows that are filled in behind their prompts, and hidden states that
        were not kept computed by the present backbone."""
        rows = batch.tokens
        if rows is None:
            return batch.observation
        observation = with_prompt(batch.observation, rows.prompt, rows.prompt_length)
        if observation.rows is None or observation.rows.hidden is not None:
            return observation
        variables = self.training_variables(base, state.backbone)
        hidden = hidden_states(
            self.model, variables, rows, self.rollout, self.settings.rows_at_a_time,
            self.mesh.size,
        )  # fmt: skip
        return with_hidden(observation, hidden)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def statistics_step(
        self, state: LearnerState, batch: HeadBatch[jax.Array], real: jax.Array, base: Any = None
    ) -> LearnerState:
        """Adds a batch to what the heads' inputs are standardised by; for heads that see rows."""
        statistics = state.heads.statistics.updated(self.observed(state, batch, base), real)
        return state._replace(heads=state.heads._replace(statistics=statistics))

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def critic_step(
        self, state: LearnerState, batch: HeadBatch[jax.Array], real: jax.Array, base: Any = None
    ) -> tuple[LearnerState, Metrics]:
        """One step of the critic, which there has to be, towards the returns to go.

        metrics: critic_loss, before it.
        """
        operator = batch.operator
        assert operator is not None
        seen = self.heads.standardised(state.heads, self.observed(state, batch, base))

        def loss_fn(critic: Any) -> tuple[jax.Array, Metrics]:
            q = self.values(critic, seen, base)
            loss = critic_loss(q, operator, batch.returns_to_go, real)
            return loss, {"critic_loss": loss}

        optimizer = self.settings.optimizer(self.settings.critic_rate)
        critic, opt, metrics = _descend(
            loss_fn, state.heads.critic, optimizer, state.optimizers.critic
        )
        state = state._replace(
            heads=state.heads._replace(critic=critic),
            optimizers=state.optimizers._replace(critic=opt),
        )
        return state, metrics

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def actor_step(
        self, state: LearnerState, batch: HeadBatch[jax.Array], real: jax.Array, base: Any = None
    ) -> tuple[LearnerState, Metrics]:
        """One step of the actor.

        metrics, before the step: actor_loss, the policy's entropy where the actor decided, and what
        the objective adds.
        """
        settings = self.settings
        seen = self.heads.standardised(state.heads, self.observed(state, batch, base))
        q = None
        if self.heads.critic is not None:
            q = among_legal(self.values(state.heads.critic, seen, base), batch.legal)

        def loss_fn(actor: Any) -> tuple[jax.Array, Metrics]:
            logits = self.heads.actor.apply({"params": actor}, seen)
            policy = self.heads.distribution(logits, batch.legal)
            loss = settings.actor.loss(policy, q, batch, real)
            spread = mean(policy.entropy(), real * batch.decided)
            return loss.value, {
                "actor_loss": loss.value, "actor_entropy": spread, **loss.metrics
            }  # fmt: skip

        optimizer = settings.actor_optimizer
        actor, opt, metrics = _descend(
            loss_fn, state.heads.actor, optimizer, state.optimizers.actor
        )
        state = state._replace(
            heads=state.heads._replace(actor=actor),
            optimizers=state.optimizers._replace(actor=opt),
        )
        return state, metrics

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def backbone_step(
        self,
        state: LearnerState,
        base: Any,
        start: Any,
        batch: BackboneBatch[jax.Array],
        real: jax.Array,
        key: jax.Array,
    ) -> tuple[LearnerState, Metrics]:
        """One step of the backbone's trained weights along their objective.

        The gradient is that of the whole minibatch, summed in float32 over `backbone_accumulate`
        microbatches, which must divide it.

        Args:
          base: the frozen parameters, never changed; None where all weights are trained.
          start: the parameters before any training; None unless the objective measures the KL to
            them.
          key: for dropout.

        Returns:
          The state; and, before the step, backbone_loss, means over the written positions of the
          distributions' entropy and of what was written's probability, and what the objective adds.
        """
        settings, objective = self.settings, self.settings.backbone
        tokens, lengths = assemble_rows(
            batch.prompt, batch.prompt_length, batch.tokens, self.rollout.pad_id
        )
        sigma = sigma_of(batch.tokens, batch.step, self.rollout)
        a_step = self.rollout.gen_len / self.rollout.max_steps
        share = objective.shares(batch.written, real, a_step)
        mean_share = position_shares(batch.written, real)
        temperature = self.rollout.draw.temperature if objective.drawn else 1.0

        def loss_fn(backbone: Any, part: tuple, part_key: jax.Array) -> tuple[jax.Array, Metrics]:
            tokens, lengths, sigma, batch, share, mean_share = part
            gen_len = self.rollout.gen_len
            rows = Rows(tokens, lengths, batch.target, gen_len, batch.position, None, sigma)
            before = None
            if start is not None:
                whole = sharding.gather_parameters(self.mesh, start) if settings.fsdp else start
                before = {"params": whole}
            statistics = token_statistics(
                self.model, self.training_variables(base, backbone), rows, temperature, before,
                None if objective.drawn else part_key, self.mesh.size,
            )  # fmt: skip
            loss = objective.loss(statistics, batch, share)
            measured = {
                "backbone_entropy": statistics.entropy,
                "backbone_confidence": jnp.exp(statistics.log_prob),
                **loss.metrics,
            }
            means = {name: (x * mean_share).sum() for name, x in measured.items()}
            return loss.value, {"backbone_loss": loss.value, **means}

        if settings.fsdp:
            loss_fn = sharding.gathering_again(loss_fn)
        parts = (tokens, lengths, sigma, batch, share, mean_share)
        metrics, gradient = accumulated_gradient(
            loss_fn, state.backbone, parts, key, settings.backbone_accumulate
        )
        backbone, opt = _step(
            settings.backbone_optimizer, gradient, state.optimizers.backbone,
            state.backbone,
        )  # fmt: skip
        if settings.fsdp:
            backbone, opt = sharding.keep_split(self.mesh, (backbone, opt))
        state = state._replace(
            backbone=backbone, optimizers=state.optimizers._replace(backbone=opt)
        )
        return state, metrics


def _descend(
    loss_fn: Any, params: Any, optimizer: optax.GradientTransformation, opt_state: Any
) -> tuple[Any, Any, Metrics]:
    """One optimiser step; returns params, optimiser state and metrics."""
    gradient, metrics = jax.grad(loss_fn, has_aux=True)(params)
    return *_step(optimizer, gradient, opt_state, params), metrics


def _step(
    optimizer: optax.GradientTransformation, gradient: Any, opt_state: Any, params: Any
) -> tuple[Any, Any]:
    """The parameters and the optimiser's state after a step along the gradient."""
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state
