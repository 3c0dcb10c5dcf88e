"""What a step of `denoise` reveals, against sets: the quota's most confident and the sure ones."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support import toy

from reoac_jax.backbone.draw import TokenPrediction
from reoac_jax.rollout.types import Generated
from reoac_jax.rollout.update import revealed_positions

G = 8
SETTINGS = toy.rollout_settings()
confidences = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, float(np.nextafter(np.float32(1), 2))])


@jax.jit
def revealed(masked, selected, confidence, quota, threshold, step):
    zeros = jnp.zeros(G)
    row = Generated(jnp.where(masked, toy.MASK_ID, 2), zeros, zeros, jnp.zeros(G, bool))
    proposal = TokenPrediction(jnp.full(G, 3), confidence, zeros, zeros)
    return revealed_positions(row, proposal, selected, quota, threshold, step, SETTINGS)


@given(
    masked=hnp.arrays(np.bool_, G), selected=hnp.arrays(np.bool_, G),
    confidence=hnp.arrays(np.float32, G, elements=confidences), quota=st.integers(1, G),
    threshold=st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), step=st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_the_quota_and_all_above_the_threshold(
    masked, selected, confidence, quota, threshold, step
):
    got = revealed(
        masked, selected, confidence, np.int32(quota), np.float32(threshold), np.int32(step)
    )
    found = set(np.flatnonzero(got).tolist())
    candidates = sorted(np.flatnonzero(masked & selected), key=lambda i: (-confidence[i], i))
    if step == 5:
        assert found == set(np.flatnonzero(masked).tolist())
    elif threshold == 1.0:  # as without thresholds, whatever the rounding
        assert found == set(candidates[:quota])
    else:
        sure = {i for i in candidates if confidence[i] > threshold}  # strictly
        assert found == set(candidates[:quota]) | sure
