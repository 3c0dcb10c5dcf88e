"""What actor and critic see at a step, in named parts (DESIGN.md, section 6)."""

from collections.abc import Sequence
from typing import Generic, NamedTuple

import numpy as np

from reoac_jax.devices.arrays import ArrayT
from reoac_jax.policy.features import EXTRA_FEATURES, FEATURES, preview_names


class Observation(NamedTuple, Generic[ArrayT]):
    """A part that is switched off is None: it is neither computed nor kept.

    alignment: float32 `[..., 11]`, in the order of `FEATURES`.
    pooled: float32 `[..., D]`, mean hidden state of the row's real tokens; its scale is the
    backbone's.
    progress: float32 `[..., 5]`, in the order of `EXTRA_FEATURES`.
    preview: float32 `[..., 3 A + 2]`, in the order of `preview_names`.
    """

    alignment: ArrayT
    pooled: ArrayT | None = None
    progress: ArrayT | None = None
    preview: ArrayT | None = None


def named_features(
    observation: Observation[np.ndarray], operators: Sequence[str]
) -> dict[str, np.ndarray]:
    """Every feature that has a name, `[...]` each: of all parts but the pooled hidden state.

    operators: their names, in order.
    """
    parts = (
        (observation.alignment, FEATURES),
        (observation.progress, EXTRA_FEATURES),
        (observation.preview, preview_names(operators)),
    )
    return {
        name: part[..., column]
        for part, names in parts
        if part is not None
        for column, name in enumerate(names)
    }
