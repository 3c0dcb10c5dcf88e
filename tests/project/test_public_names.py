"""What `import reoac_jax` offers: every name is there, and nothing is loaded before its use."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from support import toy
from support.small_run import TINY

import reoac_jax


@pytest.mark.parametrize("name", reoac_jax.__all__)
def test_every_public_name_is_there(name):
    assert getattr(reoac_jax, name) is not None
    assert name in dir(reoac_jax)


def test_what_is_unknown_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'run_rollouts'"):
        _ = reoac_jax.run_rollouts


@pytest.mark.process
def test_importing_the_package_loads_nothing():
    code = "import reoac_jax, sys; assert 'jax' not in sys.modules and 'flax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_run_rollout_from_python(tmp_path):
    """As the guide has it: a configuration, its parts, one prompt."""
    backbone = toy.word_backbone(tmp_path / "backbone")
    changes = [f"--config.backbone.path={backbone}", "--config.rollout.gen_len=4"]
    config = reoac_jax.load_config(TINY, [*changes, "--config.rollout.max_steps=2"])
    parts = reoac_jax.load_parts(config)
    ids = np.array(parts.tokenizer("3 7 12 = 33 ?").input_ids, np.int32)
    request = reoac_jax.rollout.Request(ids, np.ones(len(ids), bool), row_id=0)
    result = reoac_jax.run_rollout(
        parts.model, parts.base, parts.heads, parts.heads.init(jax.random.key(0)),
        parts.vocabulary, parts.rollout_settings(config), [request], jax.random.key(1),
    )  # fmt: skip
    assert result.tokens.shape == (1, 4)
    assert not (result.tokens == parts.model.spec.mask_id).any()
    assert result.steps.active.shape == (1, 2)
