"""Values in the environment that JAX itself refuses: one line from every command, exit code 2."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from reoac_jax.devices.refused_settings import _is_command, refused_setting

ROOT = Path(__file__).resolve().parents[2]
REFUSED = {
    "JAX_ENABLE_X64": ("maybe", "true or false"),
    "JAX_DEBUG_NANS": ("", "true or false"),
    "JAX_NUMPY_DTYPE_PROMOTION": ("loose", "standard or strict"),
    "JAX_NUMPY_RANK_PROMOTION": ("yes", "allow or warn or raise"),
    "JAX_TRANSFER_GUARD": ("1", "allow or log or disallow"),
    "JAX_NUM_CPU_DEVICES": ("four", "an integer"),
    "JAX_TRACER_ERROR_NUM_TRACEBACK_FRAMES": ("x", "an integer"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": ("soon", "a number"),
    "JAX_DEFAULT_DEVICE": ("fast", "what JAX takes (jax.default_device must be passed"),
}
# Runs JAX's own readers of the environment, without importing all of JAX for each variable.
READ = """
import sys
sys.argv[0] = "-m"
import reoac_jax
import jax
"""


def started(*command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("name", REFUSED)
def test_the_line_names_variable_value_and_what_is_expected(name):
    value, expected = REFUSED[name]
    done = started("-c", READ, **{name: value})
    assert done.returncode == 2
    assert done.stderr == (
        f"error: JAX refuses the environment variable {name}={value!r}; expected {expected}"
        f"{done.stderr.partition(expected)[2]}"
    )
    assert done.stderr.count("\n") == 1 and done.stderr.endswith(", or the variable unset\n")


@pytest.mark.process
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "reoac_jax", "train"],
        ["-m", "reoac_jax.sft"],
        ["convert/to_flax.py"],
        ["scripts/study.py"],
    ],
    ids=lambda command: command[-1],
)
def test_every_way_to_start_a_command(command):
    done = started(*command, JAX_ENABLE_X64="maybe")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: JAX refuses the environment variable JAX_ENABLE_X64=")
    assert done.stderr.count("\n") == 1


def test_what_counts_as_a_command():
    ours = ["-m", "/usr/bin/reoac", "bin/reoac", str(ROOT / "scripts" / "study.py")]
    others = ["", "-c", "train.py", str(ROOT.parent / "study.py"), "/usr/bin/pytest"]
    assert all(map(_is_command, ours)) and not any(map(_is_command, others))


def raised_in(file: str, source: str) -> ValueError:
    """What is raised by calling `f` of a module of that file."""
    module = types.ModuleType("module")
    exec(compile(source, file, "exec"), module.__dict__)
    with pytest.raises(ValueError) as caught:
        module.f()
    return caught.value


def test_only_what_jax_says_of_its_environment_is_explained(monkeypatch):
    config = "/site-packages/jax/_src/config.py"
    monkeypatch.setenv("JAX_NEW", "b\nc")
    refused = "def f(name='jax_new', enum_values={}):\n raise ValueError('Invalid value \"b\\nc\" for JAX flag jax_new')"  # noqa: E501
    line = refused_setting(raised_in(config, refused.format("['u', 'v']")))
    assert line == (
        "JAX refuses the environment variable JAX_NEW='b\\nc'; expected u or v, or the variable "
        "unset"
    )
    assert "expected what JAX takes (Invalid value" in refused_setting(
        raised_in(config, refused.format("None"))
    )
    assert refused_setting(raised_in("/elsewhere/config.py", refused.format("None"))) is None
    other = "def f():\n raise ValueError('something else')"
    assert refused_setting(raised_in(config, other)) is None
    monkeypatch.delenv("JAX_NEW")
    assert refused_setting(raised_in(config, refused.format("None"))) is None
    assert refused_setting(ValueError("Invalid value")) is None
    assert refused_setting(RuntimeError("Invalid value")) is None
