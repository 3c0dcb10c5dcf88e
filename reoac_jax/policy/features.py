"""Relation energy and the 11 alignment features (DESIGN.md, section 6).

Written for one row and `vmap`ped; `P` is the padded prompt length, `G` the generated positions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from reoac_jax.policy.given import Given, read_prompt
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.tasks.equation_notation import EquationNotation

FEATURES = (
    "key_coverage",
    "key_mass_ratio",
    "key_conditioned_confidence",
    "prompt_entropy_mean",
    "prompt_entropy_p90",
    "temporal_delta",
    "hallucinated_number_rate",
    "number_copy_rate",
    "answer_form_valid",
    "suspect_mean",
    "suspect_p90",
)
EXTRA_FEATURES = (
    "steps_done",
    "masked_share",
    "confidence_mean",
    "confidence_max",
    "entropy_max",
)
# Shares that are a half exactly (half of an unrelated prompt is key) must not depend on rounding.
_HALF = 0.5 - 1e-6


def preview_names(operators: Sequence[str]) -> tuple[str, ...]:
    """The features of `preview_features`, for operators of these names."""
    return (
        *(f"{name}_share" for name in operators),
        *(f"{name}_confidence_mean" for name in operators),
        *(f"{name}_confidence_min" for name in operators),
        "written_log_confidence",
        "written_confidence_min",
    )


class PromptContext(NamedTuple):
    """What the features need of one prompt; looked up once per rollout.

    real: bool `[P]`, not padding. is_key: bool `[P]`, in the key set K.
    text_id, folded_id, number_id: int32 `[P]`. is_number, is_operator: bool `[P]`.
    new_number: bool `[P]`, holds a number that no earlier prompt token holds.
    given: `Given`, what it gives in the task's notation; None where that is not seen.
    """

    real: jax.Array
    is_key: jax.Array
    text_id: jax.Array
    folded_id: jax.Array
    number_id: jax.Array
    is_number: jax.Array
    is_operator: jax.Array
    new_number: jax.Array
    given: Given | None = None


def prompt_context(
    tokens: jax.Array,
    length: jax.Array,
    key_mask: jax.Array,
    vocabulary: Vocabulary,
    notation: EquationNotation | None = None,
) -> PromptContext:
    """Looks up one prompt: tokens int32 `[P]`, length int32 `[]`, key_mask bool `[P]`.

    notation: the task's, where it is seen.
    """
    given = None
    if notation is not None:
        assert vocabulary.symbols is not None
        given = read_prompt(tokens, length, vocabulary.symbols, notation)
    real = jnp.arange(tokens.shape[0]) < length
    number_id = jnp.where(real, vocabulary.number_id[tokens], -1)
    same = number_id[:, None] == number_id[None, :]
    earlier = jnp.tril(same, k=-1).any(axis=1)
    return PromptContext(
        real=real,
        is_key=key_mask & real,
        text_id=vocabulary.text_id[tokens],
        folded_id=vocabulary.folded_id[tokens],
        number_id=number_id,
        is_number=vocabulary.is_number[tokens],
        is_operator=vocabulary.is_operator[tokens],
        new_number=(number_id >= 0) & ~earlier,
        given=given,
    )


def valid_tokens(tokens: jax.Array, vocabulary: Vocabulary) -> jax.Array:
    """bool `[G]`: before the first eos, and not special, of generated tokens int32 `[G]`."""
    ended = jnp.cumsum(vocabulary.is_eos[tokens]) > 0
    return ~ended & ~vocabulary.is_special[tokens]


def relation(
    prompt: PromptContext, tokens: jax.Array, vocabulary: Vocabulary, temperature: float
) -> jax.Array:
    """P float32 `[P, G]`: each generated token's softmax over the prompt of the relation energy R.

    R is the first that holds: 1.0 same text, 0.4 both numbers, 0.6 both operators, 0.5 same text
    after casefold, else 0.1. Padding of the prompt gets 0.
    """
    energy = jnp.select(
        [
            prompt.text_id[:, None] == vocabulary.text_id[tokens],
            prompt.is_number[:, None] & vocabulary.is_number[tokens],
            prompt.is_operator[:, None] & vocabulary.is_operator[tokens],
            prompt.folded_id[:, None] == vocabulary.folded_id[tokens],
        ],
        [jnp.float32(1.0), jnp.float32(0.4), jnp.float32(0.6), jnp.float32(0.5)],
        default=jnp.float32(0.1),
    )
    return jax.nn.softmax(energy / temperature, axis=0, where=prompt.real[:, None])


def alignment_features(
    prompt: PromptContext,
    tokens: jax.Array,
    previous: jax.Array,
    has_previous: jax.Array,
    entropy: jax.Array,
    vocabulary: Vocabulary,
    temperature: float,
) -> jax.Array:
    """The 11 features of one row, in the order of `FEATURES`.

    Args:
      prompt: the row's `PromptContext`.
      tokens: int32 `[G]`, generated tokens, masks included.
      previous: int32 `[G]`, those of the step before.
      has_previous: bool `[]`, False at the first step.
      entropy: float32 `[G]`, entropy in nats of the model's token distribution.
      vocabulary: tables; their length V scales the entropy.
      temperature: `relation_temperature`.

    Returns:
      float32 `[11]`, finite; all 0 where no generated token is valid.
    """
    valid = valid_tokens(tokens, vocabulary)
    count = valid.sum()
    share = relation(prompt, tokens, vocabulary, temperature)
    on_key = jnp.where(prompt.is_key[:, None], share, 0.0).sum(axis=0)
    scaled_entropy = entropy / jnp.log(jnp.float32(vocabulary.text_id.shape[0]))
    prompt_entropy = jax.scipy.special.entr(share).sum(axis=0)
    suspect = 1.0 - on_key + scaled_entropy

    best = jnp.where(valid, share, 0.0).max(axis=1)
    numbers = jnp.where(valid, vocabulary.number_id[tokens], -1)
    copied = (prompt.number_id[:, None] == numbers) & (numbers >= 0)
    values = [
        _mean(best, prompt.is_key),
        _mean(on_key, valid),
        _mean(1.0 - scaled_entropy, valid & (on_key >= _HALF)),
        _mean(prompt_entropy, valid),
        _percentile_90(prompt_entropy, valid),
        _temporal_delta(prompt, share, valid, previous, has_previous, vocabulary, temperature),
        _mean(~copied.any(axis=0), numbers >= 0),
        _mean(copied.any(axis=1), prompt.new_number),
        _last_word_has_digit(tokens, valid, vocabulary),
        _mean(suspect, valid),
        _percentile_90(suspect, valid),
    ]
    stacked = jnp.stack([jnp.asarray(value, jnp.float32) for value in values])
    return jnp.where(count > 0, stacked, 0.0)


def extra_features(
    progress: jax.Array,
    masked: jax.Array,
    confidence: jax.Array,
    entropy: jax.Array,
    vocab_size: int,
) -> jax.Array:
    """Progress and confidence of one row, in the order of `EXTRA_FEATURES`.

    Args:
      progress: float32 `[]`, share of the steps that are done.
      masked: bool `[G]`. confidence, entropy: float32 `[G]`, of the model's present proposal.

    Returns:
      float32 `[5]`; the statistics over masked positions are 0 where nothing is masked.
    """
    scaled = entropy / jnp.log(jnp.float32(vocab_size))
    values = [
        progress,
        masked.mean(dtype=jnp.float32),
        _mean(confidence, masked),
        jnp.where(masked, confidence, 0.0).max(),
        jnp.where(masked, scaled, 0.0).max(),
    ]
    return jnp.stack([jnp.asarray(value, jnp.float32) for value in values])


def preview_features(
    reveals: jax.Array, confidence: jax.Array, written: jax.Array, written_confidence: jax.Array
) -> jax.Array:
    """What each operator would do to one row now, in the order of `preview_names`.

    The actor chooses between these very outcomes, and a row whose tokens were written with little
    confidence seldom ends well: the critic's best single sign.

    Args:
      reveals: bool `[A, G]`, what each operator would reveal. confidence: float32 `[G]`, of the
        model's present proposal.
      written: bool `[G]`, positions that are not masked. written_confidence: float32 `[G]`, of
        their tokens, when written.

    Returns:
      float32 `[3 A + 2]`: shares of G, mean and least confidence; over no position a confidence is
      1. `written_log_confidence` is the mean over all of G, nats.
    """

    def least(where: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.where(where, values, 1.0).min(axis=-1)

    shares = reveals.mean(axis=-1, dtype=jnp.float32)
    counts = jnp.maximum(reveals.sum(axis=-1), 1)
    shortfall = jnp.where(reveals, 1.0 - confidence, 0.0).sum(axis=-1)
    # A confidence may have been rounded to 0, or never been measured.
    logs = jnp.log(jnp.maximum(written_confidence, 1e-6))
    rest = [jnp.where(written, logs, 0.0).mean(), least(written, written_confidence)]
    return jnp.concatenate(
        [shares, 1.0 - shortfall / counts, least(reveals, confidence), jnp.stack(rest)]
    )


def _mean(values: jax.Array, where: jax.Array) -> jax.Array:
    """Mean over the positions in `where`; 0 where there is none."""
    total = jnp.where(where, values.astype(jnp.float32), 0.0).sum()
    return total / jnp.maximum(where.sum(), 1)


def _percentile_90(values: jax.Array, where: jax.Array) -> jax.Array:
    """Element round(0.9 (n-1)), halves to even, of the sorted `values` in `where`."""
    # Integers: in float32, 0.9 (n-1) misses the halves.
    tenths = 9 * jnp.maximum(where.sum() - 1, 0)
    index, rest = tenths // 10, tenths % 10
    index = index + ((rest > 5) | ((rest == 5) & (index % 2 == 1)))
    return jnp.sort(jnp.where(where, values, jnp.inf))[index]


def _temporal_delta(
    prompt: PromptContext,
    share: jax.Array,
    valid: jax.Array,
    previous: jax.Array,
    has_previous: jax.Array,
    vocabulary: Vocabulary,
    temperature: float,
) -> jax.Array:
    both = valid & valid_tokens(previous, vocabulary)
    change = jnp.abs(share - relation(prompt, previous, vocabulary, temperature))
    return jnp.where(has_previous, _mean(change, prompt.real[:, None] & both), 0.0)


def _last_word_has_digit(tokens: jax.Array, valid: jax.Array, vocabulary: Vocabulary) -> jax.Array:
    """Whether the last white-space separated word of the valid tokens' text holds a digit."""
    positions = jnp.arange(tokens.shape[0])
    inked = valid & ~vocabulary.is_blank[tokens]
    last = jnp.where(inked, positions, -1).max()
    at_end = vocabulary.space_at_end[tokens]
    # A word reaches left over a token unless white space stands in that token (for the last token:
    # before its last word), or the token further left ends with white space.
    spaced = vocabulary.space_inside[tokens] | (at_end & (positions != last))
    breaks = jnp.where(valid & (positions <= last), spaced, False)
    breaks_after = jnp.cumsum(breaks[::-1])[::-1] - breaks
    in_word = valid & (positions < last) & (breaks_after == 0) & ~at_end
    return (vocabulary.last_word_has_digit[tokens] & (in_word | (positions == last))).any()
