"""What of a rollout is static."""

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.devices.sharding import anywhere
from reoac_jax.policy.distributions import AnyPositions
from reoac_jax.policy.operators import Operator, make_operators
from reoac_jax.policy.positions import NUMBERS
from reoac_jax.tasks import TASKS
from reoac_jax.tasks.equation_notation import EquationNotation


@dataclasses.dataclass(frozen=True)
class Remasking:
    """Which complete rows go on, and from where (`denoise`; DESIGN.md, section 9).

    value: a row whose value is below it does. share: of its tokens that are masked again, above 0
    and at most 1. passes: steps of a row at most, in all attempts.
    """

    value: float
    share: float
    passes: int

    def tokens(self, gen_len: int) -> int:
        """Of a row of so many."""
        return math.ceil(round(self.share * gen_len, 9))


@dataclasses.dataclass(frozen=True)
class RolloutSettings:
    """Everything static of a rollout; hashable, so that it can be a static argument of `jit`.

    max_steps: T. gen_len: G. mask_id, pad_id: token ids.
    update_rule: "denoise" or "overwrite" (DESIGN.md, section 8).
    selection_mode: "sample" or "argmax" over the actor's logits. positions: whether it chooses
    positions, and no operator. numbers: whether it sees which of them are numbers.
    draw: how tokens are drawn.
    empty_operator: what becomes of an operator that can change nothing: "mask", it may not be
    chosen, or "fallback", `fallback_operator`, an index, acts in its place.
    repair_tokens, repair_threshold: `denoise` only.
    branch: whether branching is on at all; branch_steps, branch_k: section 9.
    stop_value: value of a row at its last step, by the critic, from which on its step is its last
    (`denoise` only); None: no row ends early.
    remasking: of complete rows; None: none goes on.
    cost_lambda: weight of a candidate's cost against its value.
    relation_temperature: of the alignment features (section 6). use_hidden, extra_features,
    operator_preview, rows: whether the observation has the parts `pooled`, `progress`, `preview`,
    `rows`. filled: whether it has the row filled in, for a critic that is a backbone, whose pass a
    step counts. keep_hidden: whether what is recorded of the rows has their hidden states.
    notation: the task's, in which the part `notation` is read; None: there is no such part.
    time_conditioned: whether the backbone sees sigma; sigma: what it follows, "masked_share" or
    "schedule"; sigma_*: the schedule (section 3).
    operators: what the actor chooses from, A of them. scope_anchor: where their windows lie.
    weights_in_parts: each device holds a part of the backbone, so that all make their passes
    together.
    windows: generated positions that a pass may compute where what stands before a block is kept,
    ascending (`backbone.kept.window_widths`); empty: every pass computes whole rows.
    """

    max_steps: int
    gen_len: int
    mask_id: int
    pad_id: int
    update_rule: str
    selection_mode: str
    draw: DrawSettings
    empty_operator: str
    fallback_operator: int
    repair_tokens: int
    repair_threshold: float
    branch: bool
    branch_steps: tuple[int, ...]
    branch_k: int
    cost_lambda: float
    relation_temperature: float
    use_hidden: bool
    extra_features: bool
    operator_preview: bool
    time_conditioned: bool
    sigma: str
    sigma_schedule: str
    sigma_min: float
    sigma_max: float
    operators: tuple[Operator, ...]
    scope_anchor: str
    positions: bool = False
    numbers: bool = False
    stop_value: float | None = None
    remasking: Remasking | None = None
    rows: bool = False
    filled: bool = False
    keep_hidden: bool = False
    notation: EquationNotation | None = None
    weights_in_parts: bool = False
    windows: tuple[int, ...] = ()

    @classmethod
    def from_config(
        cls,
        config: ConfigDict,
        *,
        mask_id: int,
        pad_id: int,
        time_conditioned: bool,
        hidden_dim: int = 0,
        evaluation: bool = False,
    ) -> "RolloutSettings":
        """Reads a validated config; `evaluation` draws and branches as that section says.

        hidden_dim: D, read where the heads see rows, of the size of what may be kept of them.
        """
        rollout = config.rollout
        rows, keep_hidden = config.heads.reads == "rows", False
        if rows and not evaluation:
            positions = config.train.episodes_per_iter * rollout.max_steps * rollout.gen_len
            keep_hidden = positions * hidden_dim * 4 <= config.heads.rows.keep_bytes
        mode = config.evaluation if evaluation else rollout
        chooses_positions = config.heads.policy == AnyPositions.name
        branch = (config.evaluation.branch or not evaluation) and rollout.branch_k > 0
        return cls(
            max_steps=rollout.max_steps,
            gen_len=rollout.gen_len,
            mask_id=mask_id,
            pad_id=pad_id,
            update_rule=rollout.update_rule,
            selection_mode=mode.selection_mode,
            draw=DrawSettings(
                mode.sample_strategy,
                rollout.temperature,
                drawn=mode.sample_strategy == "sample" and not evaluation,
            ),
            empty_operator=rollout.empty_operator,
            fallback_operator=config.operators.names.index(rollout.fallback_operator),
            repair_tokens=rollout.repair_tokens,
            repair_threshold=rollout.repair_threshold,
            branch=branch,
            branch_steps=tuple(rollout.branch_steps),
            branch_k=rollout.branch_k,
            cost_lambda=config.reward.cost_lambda,
            relation_temperature=config.features.relation_temperature,
            use_hidden=config.features.use_hidden,
            extra_features=config.features.extra_features,
            operator_preview=config.features.operator_preview,
            time_conditioned=time_conditioned,
            sigma=rollout.sigma,
            sigma_schedule=rollout.sigma_schedule,
            sigma_min=rollout.sigma_min,
            sigma_max=rollout.sigma_max,
            operators=make_operators(config),
            scope_anchor=rollout.scope_anchor,
            positions=chooses_positions,
            numbers=chooses_positions and config.heads.positions.start_order == NUMBERS,
            rows=rows,
            # An evaluation asks for values where it looks ahead.
            filled=config.heads.critic == "backbone" and (branch or not evaluation),
            keep_hidden=keep_hidden,
            notation=TASKS[config.task.name].notation if config.features.notation else None,
            weights_in_parts=config.sharding.fsdp,
        )

    @property
    def row_steps(self) -> int:
        """That a row takes at most."""
        return self.max_steps if self.remasking is None else self.remasking.passes

    @property
    def together(self) -> Callable[[jax.Array], jax.Array] | None:
        """Whether a flag is set on some device, where all make their passes together; else None."""
        return anywhere if self.weights_in_parts else None

    @property
    def sees_step(self) -> bool:
        """Whether a row's prediction depends on the step, and not on its tokens alone."""
        return self.time_conditioned and self.sigma == "schedule"

    @property
    def keeps_predictions(self) -> bool:
        """Whether a step that changed no token leaves the next one's forward pass as it was.

        Not where the backbone sees a schedule's time, nor where tokens are drawn anew at each step;
        and with look-aheads the rows keep step, so that they branch together.
        """
        return not (self.sees_step or self.branch or self.draw.strategy == "sample")

    @property
    def costs(self) -> tuple[float, ...]:
        """What a step with each operator costs."""
        return tuple(operator.charge for operator in self.operators)

    @property
    def cheapest(self) -> int:
        """The operator whose step costs least; the first of several."""
        return self.costs.index(min(self.costs))

    def is_forced(self, step: jax.Array) -> jax.Array:
        """Whether steps, int32 `[...]`, leave nothing to decide: the last one of `denoise`."""
        return (step == self.max_steps - 1) & (self.update_rule == "denoise")

    @property
    def thresholds(self) -> np.ndarray:
        """float32 `[A]`: confidence above which a step with each operator reveals more."""
        return np.array([operator.threshold for operator in self.operators], np.float32)

    @property
    def quotas(self) -> np.ndarray:
        """int32 `[A]`: tokens that a step with each operator reveals at least."""
        share = self.gen_len / self.max_steps
        return np.array([o.quota(share, self.gen_len) for o in self.operators], np.int32)

    @property
    def base_quota(self) -> int:
        """Tokens that a step of scale 1 reveals: ceil(G / T)."""
        return math.ceil(self.gen_len / self.max_steps)
