"""What an operator is: where it works, how boldly it reveals, what a step of it costs."""

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.config.parameters import Parametric, parameter
from reoac_jax.policy.ranking import lowest
from reoac_jax.policy.vocabulary import Vocabulary


class View(NamedTuple):
    """What an operator sees of one row; `G` generated positions.

    written: int32 `[G]`, the revealed token, or for a masked position the token the model would
    write there now. Under `overwrite` a masked position holds the mask id, which is neither a
    number nor an operator sign.
    frontier: bool `[G]`, where work is left: the masked positions, or where none is masked those
    that repair may take back.
    confidence: float32 `[G]`, of the model's present proposals.
    vocabulary: tables. anchor: "frontier" starts windows at the first position of the frontier,
    "end" ends them at G.
    """

    written: jax.Array
    frontier: jax.Array
    confidence: jax.Array
    vocabulary: Vocabulary
    anchor: str

    def window(self, size: int) -> jax.Array:
        """bool `[G]`: `size` positions in a row, fewer where the row ends; at the end of the row
        where the frontier is empty."""
        length = self.frontier.shape[0]
        start = jnp.int32(max(length - size, 0))
        if self.anchor == "frontier":
            start = jnp.where(self.frontier.any(), jnp.argmax(self.frontier), start)
        positions = jnp.arange(length)
        return (positions >= start) & (positions < start + size)

    def last(self, chosen: jax.Array, count: int) -> jax.Array:
        """bool `[G]`: the last `count` of the positions `chosen`, bool `[G]`."""
        return lowest(-jnp.arange(chosen.shape[0]), chosen, count)


def step_scale(default: float) -> Any:
    """The parameter of that name."""
    return parameter(default, "factor on the tokens revealed a step", low=0.01, high=100.0)


def reveals_above(default: float) -> Any:
    """The parameter `threshold`."""
    return parameter(
        default,
        "denoise: what the model proposes with more confidence is revealed beyond that number; 1: "
        "nothing is",
        low=0.0,
        high=1.0,
    )


def step_cost(default: float) -> Any:
    """The parameter `cost`."""
    return parameter(default, "cost of a step", low=0.0, high=100.0)


def window_len(default: int) -> Any:
    """The parameter `scope_len` of operators that select a window."""
    return parameter(default, "positions in the window", low=1, high=4096)


def most_tokens() -> Any:
    """The parameter `max_tokens` of operators that select by what stands there."""
    return parameter(16, "positions selected at most", low=1, high=4096)


@dataclasses.dataclass(frozen=True)
class Operator(Parametric, abc.ABC):
    """One thing the actor may do at a step: where the step works, and what it costs.

    A subclass is one file in this folder: its `name`, its parameters beside the three of all
    operators, and `select`. Its file is found by itself; `operators.names` lists the operators that
    a configuration uses, and `operators.<name>.<parameter>` holds their parameters.

    Attributes:
      branches: (of the class) a step of it looks ahead (DESIGN.md, section 9).
    """

    branches: ClassVar[bool] = False

    step_scale: float = step_scale(1.0)
    threshold: float = reveals_above(1.0)
    cost: float = step_cost(1.0)

    @abc.abstractmethod
    def select(self, view: View) -> jax.Array:
        """bool `[G]`: the positions that a step may change. Pure, for `vmap` and `jit`."""

    @property
    def charge(self) -> float:
        """What a step costs."""
        return self.cost

    def quota(self, share: float, gen_len: int) -> int:
        """Tokens that a step reveals: ceil(step_scale * share), at least 1 and at most `gen_len`.

        share: `gen_len` / `max_steps`.
        """
        # Rounded first: 1.5 * (64 / 32) must not become 4 by an error in the last bit.
        return min(max(math.ceil(round(self.step_scale * share, 9)), 1), gen_len)
