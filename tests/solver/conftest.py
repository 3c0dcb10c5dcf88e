"""A backbone that solves something, for all of the room's tests."""

from pathlib import Path

import pytest

from reoac_jax.convert.mdlm_to_flax import main as convert
from reoac_jax.system.errors import run_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def backbone(tmp_path_factory) -> Path:
    """The bundled backbone, converted."""
    folder = tmp_path_factory.mktemp("backbone") / "tiny_mdlm"
    argv = ["--source", str(ROOT / "data" / "tiny_mdlm"), "--output", str(folder)]
    assert run_command(convert, argv) == 0
    return folder
