"""One denoising step of every row under a policy over positions."""

import jax
import jax.numpy as jnp

from reoac_jax.backbone.prediction import Prediction
from reoac_jax.policy.distributions import AnyPositions
from reoac_jax.policy.features import PromptContext
from reoac_jax.rollout.act import observe, pick
from reoac_jax.rollout.branch import no_candidates
from reoac_jax.rollout.denoising import Decision
from reoac_jax.rollout.step import ActorDecider, Rows, written_log_prob
from reoac_jax.rollout.types import Prompts, Trajectory
from reoac_jax.rollout.update import apply_update


class PositionDecider(ActorDecider):
    """The policy over positions as a `Decider`: its rows are `(Prompts, PromptContext)`.

    The masked positions that the actor chose are revealed; where it chose none, the one that it
    thinks most of, so that every step writes; in the last step all of them. What is recorded as
    chosen is what was drawn: the rest is the environment's, and the actor's probability of its own
    choice stays exact. A step costs as much as one of the cheapest operator.
    """

    def decide(
        self,
        rows: tuple[Prompts, PromptContext],
        state: Rows,
        prediction: Prediction,
        step: jax.Array,
        active: jax.Array,
        asked: jax.Array,
    ) -> Decision:
        settings, generated = self.settings, state.generated
        masked = generated.tokens == settings.mask_id
        observation = observe(
            self.inputs(rows), settings, generated, state.previous, prediction, step, None
        )
        logits = self.heads(observation, step).logits
        chosen = pick(AnyPositions(logits, masked), rows[0].keys, step, settings)
        everything = jnp.int32(settings.gen_len)
        update = jax.vmap(apply_update, (0, 0, 0, None, None, 0, None))(
            generated, prediction.tokens, one_at_least(chosen, logits, masked), everything,
            jnp.float32(1.0), step, settings,
        )  # fmt: skip
        nowhere = jnp.zeros_like(active)
        record = Trajectory(
            active=active,
            observation=self.kept_of(observation),
            tokens=generated.tokens,
            written=update.written,
            repaired=update.repaired,
            confidence=prediction.tokens.confidence,
            log_prob=written_log_prob(prediction.tokens.drawn, update.written),
            logits=logits,
            q=None,
            legal=masked,
            chosen=chosen,
            decided=~settings.is_forced(step),
            operator=None,
            executed=None,
            cost=jnp.full(step.shape, min(settings.costs), jnp.float32),
            forward_passes=asked.astype(jnp.int32),
            branched=nowhere,
            candidates=no_candidates(active.shape[0], settings.branch_k),
        )
        following = Rows(update.generated, generated.tokens)
        return Decision(
            state=following,
            record=record,
            finished=self.finished(following, step + 1),
            prediction=prediction,
            fresh=nowhere,
            kept=nowhere,
            operator=None,
            passes=jnp.zeros((), jnp.int32),
        )


def one_at_least(chosen: jax.Array, logits: jax.Array, masked: jax.Array) -> jax.Array:
    """bool `[B, G]`: what was chosen, or where that is nothing the masked position of the largest
    logit.

    Args:
      chosen, masked: bool `[B, G]`. logits: float32 `[B, G]`.
    """
    first = jnp.argmax(jnp.where(masked, logits, -jnp.inf), axis=-1)
    only = jax.nn.one_hot(first, logits.shape[-1], dtype=bool) & masked
    return jnp.where(chosen.any(axis=-1, keepdims=True), chosen, only)
