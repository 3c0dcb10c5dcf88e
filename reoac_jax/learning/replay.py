"""Replay buffer: the latest episodes, on the host, oldest leave first (DESIGN.md, section 10)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, NamedTuple

import jax
import numpy as np

from reoac_jax.backbone.prediction import prompt_width
from reoac_jax.devices.arrays import ArrayT
from reoac_jax.learning.minibatches import like_length
from reoac_jax.policy.observation import FilledRows, Observation, PositionRows, with_hidden


class Episodes(NamedTuple):
    """`E` finished episodes of `T` steps; what the three updates need of them.

    prompt: int32 `[E, P]`, right-padded to the longest allowed. prompt_length: int32 `[E]`.
    reference, final: int32 `[E, G]`, the reference's tokens and the episode's own.
    returns_to_go: float32 `[E, T]`, the reward less what the steps from each one on were charged.
    actor_advantage, backbone_advantage: float32 `[E, T]`, of each step, as the two objectives
    estimate it.
    active: bool `[E, T]`. observation: `Observation` `[E, T, ...]`; what it has of hidden states of
    positions is kept of the episodes that were added last alone.
    operator, chosen: int32 `[E, T]`. decided: bool `[E, T]`.
    legal: bool `[E, T, A]`, what could be chosen. log_prob: float32 `[E, T]`, of `chosen`. Where
    positions are chosen operator is None, and chosen and legal are bool `[E, T, G]`.
    tokens: int32 `[E, T, G]`, before the step. written: bool `[E, T, G]`.
    token_log_prob: float32 `[E, T, G]`, with which what was written was drawn; 0 if not known.
    """

    prompt: np.ndarray
    prompt_length: np.ndarray
    reference: np.ndarray
    final: np.ndarray
    returns_to_go: np.ndarray
    actor_advantage: np.ndarray
    backbone_advantage: np.ndarray
    active: np.ndarray
    observation: Observation[np.ndarray]
    operator: np.ndarray | None
    chosen: np.ndarray
    decided: np.ndarray
    legal: np.ndarray
    log_prob: np.ndarray
    tokens: np.ndarray
    written: np.ndarray
    token_log_prob: np.ndarray


# The parts of an observation that have parts themselves.
_NESTED: Mapping[str, type] = {"rows": PositionRows, "filled": FilledRows}


class RowTokens(NamedTuple, Generic[ArrayT]):
    """What the hidden states of `N` rows are computed from; fields as in `BackboneBatch`."""

    prompt: ArrayT
    prompt_length: ArrayT
    tokens: ArrayT
    step: ArrayT


class HeadBatch(NamedTuple, Generic[ArrayT]):
    """`N` transitions for critic and actor; fields as in `Episodes`, without the episode axis.

    tokens: where rows are observed whose hidden states are not all known, what to compute them
    from; where rows are filled in, their prompts; else None.
    """

    observation: Observation[ArrayT]
    operator: ArrayT | None
    chosen: ArrayT
    legal: ArrayT
    log_prob: ArrayT
    returns_to_go: ArrayT
    advantage: ArrayT
    decided: ArrayT
    tokens: RowTokens[ArrayT] | None = None


class BackboneBatch(NamedTuple, Generic[ArrayT]):
    """`N` transitions that wrote something, for the backbone.

    prompt: int32 `[N, P]`. prompt_length: int32 `[N]`. tokens: int32 `[N, G]`, before the step.
    position: int32 `[N, K]`, generated positions, those that were written first. written: bool
    `[N, K]`, whether they were. target: int32 `[N, K]`, tokens that are asked about there.
    log_prob: float32 `[N, K]`, with which the written tokens were drawn, where it is known.
    advantage: float32 `[N]`. step: int32 `[N]`.
    """

    prompt: ArrayT
    prompt_length: ArrayT
    tokens: ArrayT
    position: ArrayT
    written: ArrayT
    target: ArrayT
    log_prob: ArrayT
    advantage: ArrayT
    step: ArrayT


def crop_prompts(batch: BackboneBatch[np.ndarray]) -> BackboneBatch[np.ndarray]:
    """The batch without the columns that `prompt_width` of its longest prompt leaves out."""
    return batch._replace(prompt=_cropped(batch.prompt, batch.prompt_length))


def _cropped(prompt: np.ndarray, length: np.ndarray) -> np.ndarray:
    return prompt[:, : prompt_width(int(length.max()))]


# (episodes, episode int [N], step int [N]) -> int32 [N, G]: the tokens that a loss asks about.
TargetFn = Callable[[Episodes, np.ndarray, np.ndarray], np.ndarray]


class Replay:
    """A ring of `capacity` episodes; minibatches are drawn from all of it, with replacement.

    Attributes:
      capacity: episodes kept.
      added: episodes added so far; episode number i lies at i % capacity.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.added = 0
        self._ring: Episodes | None = None
        self._hidden: np.ndarray | None = None  # [E, T, G, D], of the episodes added last

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, episodes: Episodes) -> None:
        """Adds episodes in order. Raises `ValueError` for more than the capacity at once."""
        count = len(episodes.prompt)
        if count > self.capacity:
            raise ValueError(f"{count} episodes do not fit a buffer of {self.capacity}")
        self._hidden = None
        if (rows := episodes.observation.rows) is not None:
            self._hidden = rows.hidden
            episodes = episodes._replace(observation=with_hidden(episodes.observation, None))
        if self._ring is None:
            self._ring = jax.tree.map(
                lambda x: np.zeros((self.capacity, *x.shape[1:]), x.dtype), episodes
            )
        places = (self.added + np.arange(count)) % self.capacity
        for ring, new in zip(jax.tree.leaves(self._ring), jax.tree.leaves(episodes), strict=True):
            ring[places] = new
        self.added += count

    def head_batch(
        self, rng: np.random.Generator, size: int, latest: int | None = None
    ) -> HeadBatch[np.ndarray]:
        """Draws `size` of the active transitions uniformly; `ValueError` if there is none.

        latest: only of so many episodes, the last ones added; None: of all.
        """
        data = self._filled()
        episode, step = self._draw(data.active & self._among(latest), rng, size)
        observation = jax.tree.map(lambda x: x[episode, step], data.observation)
        tokens, needed = None, data.observation.filled is not None
        if data.observation.rows is not None:
            hidden = self._hidden_of(episode, step)
            observation = with_hidden(observation, hidden)
            needed |= hidden is None
        if needed:
            length = data.prompt_length[episode]
            prompt = _cropped(data.prompt[episode], length)
            then = step.astype(np.int32)
            tokens = RowTokens(prompt, length, data.tokens[episode, step], then)
        return HeadBatch(
            observation=observation,
            operator=None if data.operator is None else data.operator[episode, step],
            chosen=data.chosen[episode, step],
            legal=data.legal[episode, step],
            log_prob=data.log_prob[episode, step],
            returns_to_go=data.returns_to_go[episode, step],
            advantage=data.actor_advantage[episode, step],
            decided=data.decided[episode, step],
            tokens=tokens,
        )

    def backbone_batches(
        self,
        rng: np.random.Generator,
        size: int,
        count: int,
        target: TargetFn,
        latest: int | None = None,
    ) -> Iterator[BackboneBatch[np.ndarray]]:
        """`count` minibatches of `size` of the transitions that wrote something, of like length.

        With `latest`, as for `head_batch`, each transition comes once before any comes again: these
        are the present iteration's, of which an epoch can be made. Of all episodes they are drawn
        with replacement. All are drawn before they are cut into minibatches (`like_length`), but
        for several epochs, of which none may run into another.

        Raises `ValueError` if no transition wrote anything.
        """
        data = self._filled()
        wrote = data.active & data.written.any(axis=-1) & self._among(latest)
        if latest is None:
            episode, step = self._draw(wrote, rng, size * count)
        else:
            episode, step = self._found(wrote)
            epochs = -(-size * count // len(episode))
            order = np.concatenate([rng.permutation(len(episode)) for _ in range(epochs)])
            episode, step = (x[order[: size * count]] for x in (episode, step))
            if epochs > 1:
                for places in np.split(np.arange(size * count), count):
                    yield self._backbone_batch(episode[places], step[places], target)
                return
        for places in like_length(data.prompt_length[episode], count, rng):
            yield self._backbone_batch(episode[places], step[places], target)

    def _backbone_batch(
        self, episode: np.ndarray, step: np.ndarray, target: TargetFn
    ) -> BackboneBatch[np.ndarray]:
        data = self._filled()
        written = data.written[episode, step]
        # As many columns as the fullest row needs, or a few more: few shapes to compile.
        columns = min(1 << int(written.sum(axis=1).max() - 1).bit_length(), written.shape[1])
        position = np.argsort(~written, axis=1, kind="stable")[:, :columns].astype(np.int32)

        def there(x: np.ndarray) -> np.ndarray:
            return np.take_along_axis(x, position, axis=1)

        return BackboneBatch(
            prompt=data.prompt[episode],
            prompt_length=data.prompt_length[episode],
            tokens=data.tokens[episode, step],
            position=position,
            written=there(written),
            target=there(target(data, episode, step)),
            log_prob=there(data.token_log_prob[episode, step]),
            advantage=data.backbone_advantage[episode, step],
            step=step.astype(np.int32),
        )

    def state(self) -> dict[str, Any]:
        """Everything as arrays, copied, for a checkpoint; parts not observed are left out.

        Hidden states are left out too: in the next iteration they are those of older episodes.
        """
        state = _present(jax.tree.map(np.copy, self._filled()))
        state["observation"] = observed = _present(state["observation"])
        for part in _NESTED.keys() & observed.keys():
            observed[part] = _present(observed[part])
        return state | {"added": np.int64(self.added)}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` of a buffer of the same capacity gave."""
        fields = {name: state.get(name) for name in Episodes._fields}
        observed = dict(state["observation"])
        for part in _NESTED.keys() & observed.keys():
            observed[part] = _NESTED[part](**observed[part])
        episodes = Episodes(**fields | {"observation": Observation(**observed)})

        def filled_up(x: np.ndarray) -> np.ndarray:
            x = np.asarray(x)
            return np.concatenate([x, np.zeros((self.capacity - len(x), *x.shape[1:]), x.dtype)])

        self._ring = jax.tree.map(filled_up, episodes)
        self.added, self._hidden = int(state["added"]), None

    def _filled(self) -> Episodes:
        if self._ring is None:
            raise ValueError("the replay buffer is empty")
        filled: Episodes = jax.tree.map(lambda x: x[: len(self)], self._ring)
        return filled

    def _among(self, latest: int | None) -> np.ndarray:
        """bool `[E, 1]`: the last `latest` episodes that were added; None: all."""
        return (self._age() < (len(self) if latest is None else latest))[:, None]

    def _age(self) -> np.ndarray:
        """int64 `[E]`: how many episodes were added after each."""
        return (self.added - 1 - np.arange(len(self))) % self.capacity

    def _hidden_of(self, episode: np.ndarray, step: np.ndarray) -> np.ndarray | None:
        """float32 `[N, G, D]`: of these transitions; None unless those of all of them are kept."""
        if self._hidden is None:
            return None
        place = len(self._hidden) - 1 - self._age()[episode]
        return self._hidden[place, step] if (place >= 0).all() else None

    def _draw(
        self, where: np.ndarray, rng: np.random.Generator, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        episode, step = self._found(where)
        drawn = rng.integers(0, len(episode), size)
        return episode[drawn], step[drawn]

    @staticmethod
    def _found(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        episode, step = np.nonzero(where)
        if not len(episode):
            raise ValueError("no transition in the replay buffer qualifies")
        return episode, step


def _present(parts: Any) -> dict[str, Any]:
    """The fields of a named tuple that are there, by name."""
    return {name: part for name, part in parts._asdict().items() if part is not None}
