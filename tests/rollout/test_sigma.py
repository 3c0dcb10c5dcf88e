"""The noise level that a time-conditioned backbone is told of a row."""

import jax.numpy as jnp
import numpy as np
import pytest
from support import toy

from reoac_jax.backbone.noise import noise_level
from reoac_jax.rollout import sigma_of

STEP = jnp.array([0, 3, 5], jnp.int32)


def rows():
    """All, half and none of eight positions masked."""
    masked = np.arange(8) < np.array([8, 4, 0])[:, None]
    return jnp.array(np.where(masked, toy.MASK_ID, 3), jnp.int32)


def test_sigma_follows_the_masked_share_as_in_training():
    """Whatever the step: training masks a share t of a row, and tells sigma(t)."""
    settings = toy.rollout_settings(time_conditioned=True)
    got = sigma_of(rows(), STEP, settings)
    np.testing.assert_allclose(got, -np.log(1 - 0.999 * np.array([1, 0.5, 0])), atol=1e-4)
    np.testing.assert_allclose(got, noise_level(jnp.array([1.0, 0.5, 0.0])), rtol=1e-6)
    assert float(got[0]) == pytest.approx(6.9, abs=0.01)
    np.testing.assert_array_equal(got, sigma_of(rows(), STEP[::-1], settings))


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_the_originals_schedule_follows_the_step_alone(shape):
    settings = toy.rollout_settings(
        time_conditioned=True, sigma="schedule", sigma_schedule=shape, sigma_min=0.1, sigma_max=2.0
    )
    done = np.array([0.0, 0.6, 1.0])
    share = (1 + np.cos(np.pi * done)) / 2 if shape == "cosine" else 1 - done
    for tokens in (rows(), rows()[::-1]):
        np.testing.assert_allclose(sigma_of(tokens, STEP, settings), 0.1 + 1.9 * share, rtol=1e-5)
    once = toy.rollout_settings(max_steps=1, sigma="schedule", sigma_max=2.0)
    np.testing.assert_allclose(sigma_of(rows(), STEP * 0, once), 2.0)
