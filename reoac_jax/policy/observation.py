"""What actor and critic see at a step, in named parts (DESIGN.md, section 6)."""

from collections.abc import Sequence
from typing import Generic, NamedTuple

import numpy as np

from reoac_jax.devices.arrays import ArrayT
from reoac_jax.policy.features import EXTRA_FEATURES, FEATURES, preview_names
from reoac_jax.policy.notation import NOTATION_FEATURES


class PositionRows(NamedTuple, Generic[ArrayT]):
    """The generated positions `G` of a row, each as the model sees it now.

    token: int32 `[..., G]`, the row filled in: what is written, or where masked what is proposed.
    confidence, entropy: float32 `[..., G]`, of that token's distribution: under `denoise` of the
    one it was drawn from, under `overwrite` of the present one.
    masked: bool `[..., G]`.
    hidden: float32 `[..., G, D]`, the backbone's states that the positions' logits are made from;
    None where they were not kept and are to be computed again from the tokens.
    """

    token: ArrayT
    confidence: ArrayT
    entropy: ArrayT
    masked: ArrayT
    hidden: ArrayT | None = None


class FilledRows(NamedTuple, Generic[ArrayT]):
    """Rows as they would be if they were filled in now, for a critic that is a backbone.

    token: int32 `[..., G]`, what is written, or where masked what is proposed. prompt: int32
    `[..., P]`, right-padded. prompt_length: int32 `[...]`. The last two are None in what is kept of
    a step: they are the row's, and do not change.
    """

    token: ArrayT
    prompt: ArrayT | None = None
    prompt_length: ArrayT | None = None


class Observation(NamedTuple, Generic[ArrayT]):
    """A part that is switched off is None: it is neither computed nor kept.

    alignment: float32 `[..., 11]`, in the order of `FEATURES`; None where positions are chosen.
    pooled: float32 `[..., D]`, mean hidden state of the row's real tokens; its scale is the
    backbone's.
    progress: float32 `[..., 5]`, in the order of `EXTRA_FEATURES`.
    preview: float32 `[..., 3 A + 2]`, in the order of `preview_names`.
    rows: `PositionRows` `[..., G]`.
    positions: float32 `[..., G, 2]`, where positions are chosen: of each the confidence of its
    token, of the present proposal or when it was written, and 1 where it is masked; `[..., G, 3]`
    where numbers are told apart: 1 where that token is one.
    notation: float32 `[..., 16]`, in the order of `NOTATION_FEATURES`.
    filled: `FilledRows` `[..., G]`.
    """

    alignment: ArrayT | None = None
    pooled: ArrayT | None = None
    progress: ArrayT | None = None
    preview: ArrayT | None = None
    rows: PositionRows[ArrayT] | None = None
    positions: ArrayT | None = None
    notation: ArrayT | None = None
    filled: FilledRows[ArrayT] | None = None


def with_hidden(observation: Observation[ArrayT], hidden: ArrayT | None) -> Observation[ArrayT]:
    """With these hidden states of the positions, which have to be seen; None: without any."""
    assert observation.rows is not None
    return observation._replace(rows=observation.rows._replace(hidden=hidden))


def with_prompt(
    observation: Observation[ArrayT], prompt: ArrayT | None, length: ArrayT | None
) -> Observation[ArrayT]:
    """With these prompts before the rows that are filled in, if there are any; None: without."""
    filled = observation.filled
    if filled is None:
        return observation
    return observation._replace(filled=FilledRows(filled.token, prompt, length))


def named_features(
    observation: Observation[np.ndarray], operators: Sequence[str]
) -> dict[str, np.ndarray]:
    """Every feature that has a name, `[...]` each: of all parts but hidden states and rows.

    operators: their names, in order.
    """
    parts = (
        (observation.alignment, FEATURES),
        (observation.progress, EXTRA_FEATURES),
        (observation.preview, preview_names(operators)),
        (observation.notation, NOTATION_FEATURES),
    )
    return {
        name: part[..., column]
        for part, names in parts
        if part is not None
        for column, name in enumerate(names)
    }
