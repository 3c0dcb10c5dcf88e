"""Positions in order, against Python's own sort."""

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reoac_jax.policy.ranking import lowest

POSITIONS = 7
few = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1e30])  # so that there are ties
compiled = jax.jit(lowest)


@given(
    values=hnp.arrays(np.float32, POSITIONS, elements=few),
    where=hnp.arrays(np.bool_, POSITIONS),
    count=st.integers(-1, POSITIONS + 1),
)
@settings(max_examples=200, deadline=None)
def test_the_lowest_positions_earlier_ones_first(values, where, count):
    order = sorted(np.flatnonzero(where), key=lambda i: (values[i], i))
    got = np.flatnonzero(compiled(values, where, np.int32(count)))
    assert got.tolist() == sorted(order[: max(count, 0)])
