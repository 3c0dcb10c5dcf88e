"""Actor and critic: two small networks over the same observation (DESIGN.md, sections 1 and 6)."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from reoac_jax.policy.distributions import AnyPositions, Distribution, OneOperator
from reoac_jax.policy.features import EXTRA_FEATURES, FEATURES, preview_names
from reoac_jax.policy.notation import NOTATION_FEATURES
from reoac_jax.policy.observation import Observation
from reoac_jax.policy.positions import PositionActor, PositionSizes
from reoac_jax.policy.rows import RowEncoder, RowSizes
from reoac_jax.policy.statistics import RunningStatistics
from reoac_jax.policy.value import BackboneCritic


class HeadOutput(NamedTuple):
    """logits: float32 `[B, A]`, the actor's, or `[B, G]` of one that chooses positions. q: float32
    `[B, A]`, the critic's; None where there is none."""

    logits: jax.Array
    q: jax.Array | None


class HeadParams(NamedTuple):
    """Flax parameters of the actor and of the critic, an empty pytree where there is none, and what
    their inputs are standardised by: `RunningStatistics`, or nothing, an empty pytree."""

    actor: Any
    critic: Any
    statistics: Any = ()

    def items(self) -> dict[str, Any]:
        """What there is of them, by name, as a checkpoint holds it."""
        return {name: tree for name, tree in self._asdict().items() if jax.tree.leaves(tree)}


class Head(nn.Module):
    """MLP from an `Observation` `[B, ...]` to one number for each operator, float32 `[B, A]`.

    hidden: widths of the hidden layers. outputs: A.
    reads: names of the observation's parts that it sees, side by side in this order. The pooled
      hidden state is layer-normed here: its scale depends on the backbone's depth, the other parts
      are of order one.
    rows: it sees the row's positions too, beside those parts: mean and maximum over them, encoded;
      None: it does not.
    """

    hidden: Sequence[int]
    outputs: int
    reads: tuple[str, ...]
    rows: RowSizes | None = None

    if TYPE_CHECKING:  # Flax declares a union with the state that `mutable` would return too

        def apply(self, *args: Any, **kwargs: Any) -> Any: ...

    @nn.compact
    def __call__(self, observation: Observation[jax.Array]) -> jax.Array:
        parts = []
        for name in self.reads:
            part = getattr(observation, name).astype(jnp.float32)
            if name == "pooled":
                part = nn.LayerNorm(use_bias=False, use_scale=False)(part)
            parts.append(part)
        if self.rows is not None:
            assert observation.rows is not None
            encoded = RowEncoder(self.rows)(observation.rows)
            parts += [encoded.mean(axis=1), encoded.max(axis=1)]
        x = jnp.concatenate(parts, axis=-1)
        for width in self.hidden:
            x = nn.silu(nn.Dense(width)(x))
        # A small last layer: the first policy is near uniform and the first Q near 0.
        last = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return nn.Dense(self.outputs, kernel_init=last)(x)


class AppliesHeads(Protocol):
    """Whatever turns observations `[B, ...]` at steps int32 `[B]` into the heads' outputs."""

    def apply(
        self, params: Any, observation: Observation[jax.Array], step: jax.Array
    ) -> HeadOutput: ...


@dataclasses.dataclass(frozen=True)
class Heads:
    """The two modules that go with a `HeadParams`, and the sizes of what they see.

    critic: a head, or a copy of the backbone, which is read where an observation has the row filled
    in; None where positions are chosen, whose values nothing estimates. shapes: of each part of
    the observation that they read, `(name, shape)`, but for its rows. distribution: what the
    actor's logits say. rows: sizes of the rows that they see; None where they see features alone.
    """

    actor: Head | PositionActor
    critic: Head | BackboneCritic | None
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    distribution: type[Distribution] = OneOperator
    rows: RowSizes | None = None

    @classmethod
    def create(
        cls,
        actor_hidden: Sequence[int],
        critic_hidden: Sequence[int],
        hidden_dim: int,
        use_hidden: bool,
        use_extra: bool,
        use_preview: bool,
        operators: int,
        rows: RowSizes | None = None,
        use_notation: bool = False,
        critic: BackboneCritic | None = None,
    ) -> "Heads":
        """Heads over the 11 features, and where they are switched on the pooled state [D],
        progress, the operators' preview, the task's notation and the row's positions. operators: A.
        critic: in the place of the critic's head.
        """
        widths = (
            ("alignment", len(FEATURES)),
            ("pooled", use_hidden * hidden_dim),
            ("progress", use_extra * len(EXTRA_FEATURES)),
            ("preview", use_preview * len(preview_names([""] * operators))),
            ("notation", use_notation * len(NOTATION_FEATURES)),
        )
        present = tuple((name, (width,)) for name, width in widths if width)
        reads = tuple(name for name, _ in present)
        return cls(
            actor=Head(tuple(actor_hidden), operators, reads, rows),
            critic=critic or Head(tuple(critic_hidden), operators, reads, rows),
            shapes=present,
            rows=rows,
        )

    @classmethod
    def over_positions(
        cls,
        sizes: PositionSizes,
        use_extra: bool,
        rows: RowSizes | None = None,
        use_notation: bool = False,
    ) -> "Heads":
        """An actor that chooses positions, and where they are switched on sees progress, the task's
        notation and the row's positions."""
        shapes: list[tuple[str, tuple[int, ...]]] = [
            ("positions", (sizes.gen_len, 2 + sizes.sees_numbers))
        ]
        if use_extra:
            shapes.append(("progress", (len(EXTRA_FEATURES),)))
        if use_notation:
            shapes.append(("notation", (len(NOTATION_FEATURES),)))
        return cls(PositionActor(sizes, rows), None, tuple(shapes), AnyPositions, rows)

    def example(self, batch: int = 1) -> Observation[jax.Array]:
        """An observation of zeros, as the heads read it."""
        seen: Any = {name: jnp.zeros((batch, *shape)) for name, shape in self.shapes}
        rows = None if self.rows is None else self.rows.example(batch)
        return Observation(**seen, rows=rows)

    def init(self, key: jax.Array) -> HeadParams:
        """Random parameters, and statistics of nothing; of a critic that is a backbone the head."""
        actor_key, critic_key = jax.random.split(key)
        # Lazily: the modules are not applied, each operation of which would be a program.
        shapes = jax.eval_shape(self.example)
        critic: Any = ()
        if isinstance(self.critic, BackboneCritic):
            critic = {"value": self.critic.init(critic_key)}
        elif self.critic is not None:
            critic = self.critic.lazy_init(critic_key, shapes)["params"]
        return HeadParams(
            self.actor.lazy_init(actor_key, shapes)["params"],
            critic,
            () if self.rows is None else RunningStatistics.start(self.example()),
        )

    def standardised(
        self, params: HeadParams, observation: Observation[jax.Array]
    ) -> Observation[jax.Array]:
        """The observation as the two modules take it; as it is where no rows are seen."""
        return observation if self.rows is None else params.statistics.standardise(observation)

    def apply(
        self,
        params: HeadParams,
        observation: Observation[jax.Array],
        step: jax.Array | None = None,
    ) -> HeadOutput:
        """Both heads on `Observation`s `[B, ...]`; of the step they know what is observed of it."""
        observation = self.standardised(params, observation)
        logits = self.actor.apply({"params": params.actor}, observation)
        unread = isinstance(self.critic, BackboneCritic) and observation.filled is None
        if self.critic is None or unread:
            return HeadOutput(logits, None)
        return HeadOutput(logits, self.critic.apply({"params": params.critic}, observation))
