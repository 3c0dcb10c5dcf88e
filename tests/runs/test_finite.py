"""Numbers that are no longer finite stop a run, and are named."""

import jax.numpy as jnp
import numpy as np
import pytest

from reoac_jax.runs.finite import check_finite

GOOD = {"w": jnp.ones(3), "count": jnp.int32(7), "empty": {}}


def test_finite_numbers_pass():
    check_finite(3, {"loss": np.float32(1e30)}, {"actor": GOOD, "critic": (GOOD, ())})
    check_finite(3, {}, {})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_losses_and_groups_are_named_with_the_iteration(value):
    bad = {**GOOD, "w": jnp.array([0.0, value])}
    with pytest.raises(FloatingPointError) as raised:
        check_finite(4, {"a_loss": 1.0, "b_loss": value}, {"actor": GOOD, "backbone_lora": bad})
    message = str(raised.value)
    assert f"iteration 4 b_loss is {value}" in message and "a_loss" not in message
    assert "parameters of backbone_lora are" in message and "actor" not in message
