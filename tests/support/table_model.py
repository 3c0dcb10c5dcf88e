"""A model that is a table: known logits for every state of a short row.

Rules can be checked on it token for token. Three variants, one a row's prompt token.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from support import toy

from reoac_jax.backbone.draw import Beside, DrawSettings, predict_tokens
from reoac_jax.backbone.prediction import Prediction, States
from reoac_jax.devices.streams import StepStream
from reoac_jax.rollout import Prompts, RolloutSettings
from reoac_jax.rollout.act import step_keys
from reoac_jax.samplers import Sampled, Sampler, sample

GEN_LEN, TOKENS, VARIANTS = 6, 4, 3
EOS, MASK = 0, TOKENS  # the mask is the last id
ENDS = np.arange(TOKENS + 1) == EOS
Row = tuple[int, ...]


@functools.cache
def logits() -> np.ndarray:
    """float32 `[VARIANTS, states, GEN_LEN, TOKENS + 1]`: sharp and flat distributions, and a mask
    that SUBS must leave out."""
    rng = np.random.default_rng(11)
    shape = (VARIANTS, (TOKENS + 1) ** GEN_LEN, GEN_LEN)
    sharpness = rng.uniform(0.3, 6.0, shape)[..., None]
    table = (rng.standard_normal((*shape, TOKENS + 1)) * sharpness).astype(np.float32)
    # Positions depend on few others: a distribution often settles between two steps.
    for state in itertools.product(range(TOKENS + 1), repeat=GEN_LEN):
        for place in range(GEN_LEN):
            kin = [MASK] * GEN_LEN
            kin[place - 1], kin[place] = state[place - 1], state[place]
            table[:, number(state), place] = table[:, number(kin), place]
    table[..., MASK] = 9.0
    return table


def number(state: Sequence[int]) -> int:
    return functools.reduce(lambda total, token: total * (TOKENS + 1) + token, state, 0)


def distribution(variant: int, state: Sequence[int], place: int) -> np.ndarray:
    """p at a place, float64 `[TOKENS]`."""
    x = logits()[variant, number(state), place, :TOKENS].astype(np.float64)
    weights = np.exp(x - x.max())
    return weights / weights.sum()


def denoiser(draw: DrawSettings, table=None):
    """table: `logits()`, handed to a compiled program as an argument, since as a constant it would
    stand in each of them."""
    table = jnp.asarray(logits()) if table is None else table
    powers = jnp.array([(TOKENS + 1) ** (GEN_LEN - 1 - i) for i in range(GEN_LEN)])

    def denoise(prompts, generated, step, before=None):
        own = table[prompts.tokens[:, 0], (generated * powers).sum(axis=1)]
        keys = jax.vmap(jax.random.fold_in, (0, None))(
            step_keys(prompts.keys, step), StepStream.DRAW
        )
        uniforms = jax.vmap(lambda key: jax.random.uniform(key, (GEN_LEN, 2)))(keys)
        last = own if before is None else before.hidden
        beside = Beside(
            standing=generated.reshape(-1),
            ends=jnp.asarray(ENDS),
            logits=last.reshape(-1, TOKENS + 1),
            seen=jnp.repeat(step > 0, GEN_LEN),
        )
        drawable = jnp.arange(TOKENS + 1) != MASK
        flat = predict_tokens(
            own.reshape(-1, TOKENS + 1), uniforms.reshape(-1, 2), drawable, draw, beside
        )
        tokens = jax.tree.map(lambda x: x.reshape(generated.shape), flat)
        states = States(own, ()) if draw.divergence else None
        return Prediction(tokens, jnp.zeros((generated.shape[0], 1)), states)

    return denoise


def settings(steps: int, **changes) -> RolloutSettings:
    return toy.rollout_settings(
        **{"max_steps": steps, "gen_len": GEN_LEN, "mask_id": MASK, "branch": False} | changes
    )


def prompts(starts: Sequence[Row], seed: int = 7, order: Sequence[int] | None = None) -> Prompts:
    """A row for each start, of variant and key by its number. order: the rows to take, by number"""
    numbers = np.arange(len(starts)) if order is None else np.array(order)
    ones = np.ones((len(numbers), 1), np.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers)
    variants = (numbers % VARIANTS).astype(np.int32)[:, None]
    rows = np.array(starts, np.int32)[numbers]
    own = Prompts(variants, ones[:, 0], ones.astype(bool), keys, rows)
    return jax.tree.map(jnp.asarray, own)


@functools.cache
def _table() -> jax.Array:
    return jnp.asarray(logits())


@functools.partial(jax.jit, static_argnums=(0, 2, 3, 4))
def _compiled(rule, numbers, steps, strategy, slots, prompts, count, table):
    own = settings(steps)
    rule = rule.with_numbers(numbers)
    denoise = denoiser(rule.draw(DrawSettings(strategy, 1.0)), table)
    return sample(denoise, prompts, own, rule, jnp.asarray(ENDS), slots, count)


def run(
    sampler: Sampler,
    starts: Sequence[Row],
    steps: int,
    strategy: str = "argmax",
    slots: int | None = None,
    count: int | None = None,
    order: Sequence[int] | None = None,
) -> tuple[Sampled, int]:
    """The compiled loop on rows in the order of `prompts`; also all slots' passes together."""
    sampler.check(settings(steps))
    # Without its numbers: rules that differ in these alone share a program.
    rule = sampler.with_numbers(dict.fromkeys(sampler.numbers))
    result = _compiled(
        rule, sampler.numbers, steps, strategy, slots, prompts(starts, order=order),
        np.int32(len(starts) if count is None else count), _table(),
    )  # fmt: skip
    return jax.device_get(result)


def some_starts(rows: int = 12) -> list[Row]:
    """Rows without a given token, with some, and one with all."""
    rng = np.random.default_rng(2)
    starts = [(MASK,) * GEN_LEN] * (rows // 2)
    for _ in range(rows - len(starts) - 1):
        given = rng.random(GEN_LEN) < 0.4
        starts.append(tuple(int(t) if g else MASK for t, g in
                            zip(rng.integers(0, TOKENS, GEN_LEN), given, strict=True)))  # fmt: skip
    return [*starts, (1,) * GEN_LEN]
