"""The five operators: which generated positions each one may change, and what it costs.

DESIGN.md, section 7. Written for one row and `vmap`ped; `G` generated positions, `A` operators.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.policy.ranking import lowest
from reoac_jax.policy.vocabulary import Vocabulary

OPERATORS = ("O_NUM", "O_OP", "O_SCOPE", "O_BRANCH", "O_FAST")
O_NUM, O_OP, O_SCOPE, O_BRANCH, O_FAST = range(len(OPERATORS))


@dataclasses.dataclass(frozen=True)
class OperatorSettings:
    """Parameters of the operators, in the order of `OPERATORS` where there is one value for each.

    num_max_tokens, op_max_tokens: positions that O_NUM and O_OP select at most.
    scope_len, branch_scope_len, fast_scope_len: window lengths in positions.
    scope_anchor: "frontier" starts windows at the first masked position, "end" ends them at G.
    costs: what a step with each operator costs. step_scales: factor on the step's reveal quota.
    """

    num_max_tokens: int
    op_max_tokens: int
    scope_len: int
    branch_scope_len: int
    fast_scope_len: int
    scope_anchor: str
    costs: tuple[float, ...]
    step_scales: tuple[float, ...]

    @classmethod
    def from_config(cls, config: ConfigDict) -> "OperatorSettings":
        table = config.operators
        costs = {name: table[name].cost for name in OPERATORS}
        costs["O_BRANCH"] += table.O_BRANCH.branch_depth
        costs["O_FAST"] += table.O_FAST.extra_cost
        return cls(
            num_max_tokens=table.O_NUM.max_tokens,
            op_max_tokens=table.O_OP.max_tokens,
            scope_len=table.O_SCOPE.scope_len,
            branch_scope_len=table.O_BRANCH.scope_len,
            fast_scope_len=table.O_FAST.scope_len,
            scope_anchor=config.rollout.scope_anchor,
            costs=tuple(costs[name] for name in OPERATORS),
            step_scales=(1.0, 1.0, 1.0, 1.0, table.O_FAST.step_scale),
        )

    def quotas(self, base: float, gen_len: int) -> np.ndarray:
        """int32 `[A]`: tokens a step with each operator reveals, ceil(step_scale * base).

        base: gen_len / max_steps.
        """
        # Rounded first: 1.5 * (64 / 32) must not become 4 by an error in the last bit.
        quotas = [np.ceil(round(scale * base, 9)) for scale in self.step_scales]
        return np.clip(quotas, 1, gen_len).astype(np.int32)


def select_positions(
    written: jax.Array, frontier: jax.Array, vocabulary: Vocabulary, settings: OperatorSettings
) -> jax.Array:
    """What each operator selects in one row.

    Args:
      written: int32 `[G]`, the revealed token, or for a masked position the token the model would
        write there now. Under `overwrite` a masked position holds the mask id, which is neither a
        number nor an operator sign.
      frontier: bool `[G]`; with that anchor windows start at its first True position: the first
        mask, or where nothing is masked the first token that repair may take back.

    Returns:
      bool `[A, G]`.
    """
    length = frontier.shape[0]

    def window(size: int) -> jax.Array:
        end_anchored = max(length - size, 0)
        start = jnp.int32(end_anchored)
        if settings.scope_anchor == "frontier":
            start = jnp.where(frontier.any(), jnp.argmax(frontier), start)
        positions = jnp.arange(length)
        return (positions >= start) & (positions < start + size)

    def last(chosen: jax.Array, count: int) -> jax.Array:
        return lowest(-jnp.arange(length), chosen, count)

    return jnp.stack(
        [
            last(vocabulary.has_digit[written], settings.num_max_tokens),
            last(vocabulary.is_operator[written], settings.op_max_tokens),
            window(settings.scope_len),
            window(settings.branch_scope_len),
            window(settings.fast_scope_len),
        ]
    )
