"""Settings of JAX in the user's environment: what the program needs stands, what it cannot have
is one line."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from reoac_jax.devices import processes
from reoac_jax.devices.environment import check_devices, set_up_jax
from reoac_jax.system.errors import InputError, run_command

ROOT = Path(__file__).resolve().parents[2]
UNWANTED = {
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
    "jax_disable_jit": True,
    "jax_no_tracing": True,
    "jax_transfer_guard": "disallow",
}


@pytest.mark.parametrize("name", UNWANTED)
def test_what_the_program_needs_stands(name, capsys):
    key = jax.random.key_data(jax.random.key(3))
    before = getattr(jax.config, name)
    jax.config.update(name, UNWANTED[name])
    try:
        set_up_jax()
        assert getattr(jax.config, name) == before
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and f"{name.upper()}={UNWANTED[name]} not followed" in line
        assert (jnp.ones(3, jnp.bfloat16) * jnp.ones((2, 3))).dtype == jnp.float32
        assert (jax.random.key_data(jax.random.key(3)) == key).all()
    finally:
        jax.config.update(name, before)
    set_up_jax()
    assert capsys.readouterr().err == ""


# Arguments that every check before the devices accepts.
STARTS = {
    "train": ["--config", "configs/tiny.py"],
    "sft": ["--config", "configs/tiny.py"],
    "evaluate": ["--config", "configs/tiny.py", "--policy", "O_OP", "--output", "out.json"],
    "solve": ["--checkpoint", "run", "3 7 12 = 33 ?"],
    "convert.to_flax": ["--source", "from", "--output", "to"],
    "convert.from_flax": ["--source", "from", "--output", "to"],
    "convert.peft_to_flax": ["--adapter", "from", "--base", "base", "--output", "to"],
}


@pytest.mark.parametrize("step", ["set_up_jax", "check_devices"])
@pytest.mark.parametrize("name", STARTS)
def test_every_command_that_computes_does_so_first(name, step, monkeypatch):
    class Reached(Exception):
        pass

    def reached():
        raise Reached

    module = importlib.import_module(f"reoac_jax.{name}")
    # The line of evaluate's command is read without JAX, which is then imported there.
    body = {"evaluate": "evaluation.to_files"}.get(name, name)
    body = importlib.import_module(f"reoac_jax.{body}")
    owner = processes if (name, step) == ("train", "check_devices") else body
    monkeypatch.setattr(owner, step, reached)
    if hasattr(body, "set_up_compilation"):
        monkeypatch.setattr(body, "set_up_compilation", lambda folder: None)
    monkeypatch.chdir(ROOT)
    with pytest.raises(Reached):
        run_command(module.main, STARTS[name])


def test_devices_that_are_there_are_fine():
    check_devices()


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    unset = ("JAX_PLATFORMS", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", "HOME")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [sys.executable, "-c", command], cwd=folder, capture_output=True, text=True,
        env=kept | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment,
    )  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("asked", ["cuda", "gpu", "rocm", "nonsense"])
def test_a_platform_that_is_not_there_is_one_line(asked, tmp_path):
    if any(device.platform == "gpu" for device in jax.devices()):
        pytest.skip("there is a GPU")
    command = (
        "import sys; from reoac_jax.devices.environment import check_devices;"
        "from reoac_jax.system.errors import run_command;"
        "sys.exit(run_command(lambda argv: check_devices() or 0))"
    )
    done = run(command, tmp_path, JAX_PLATFORMS=asked)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [done.stderr.splitlines()[-1]] and "Traceback" not in done.stderr
    assert f"JAX_PLATFORMS is {asked}" in lines[0] and lines[0].endswith("what is there: cpu")


def test_a_platform_that_is_not_there_leaves_the_setting(monkeypatch):
    def none():
        raise RuntimeError("Unable to initialize backend 'tpu'")

    monkeypatch.setattr(jax, "devices", none)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", "tpu")
    try:
        with pytest.raises(InputError, match="JAX_PLATFORMS is tpu.*there: none"):
            check_devices()
        assert jax.config.jax_platforms == "tpu"
    finally:
        jax.config.update("jax_platforms", before)


@pytest.mark.parametrize(
    "flags, said",
    [
        ("--xla_none_such=1", "Unknown flag in XLA_FLAGS: --xla_none_such=1"),
        ("--xla_force_host_platform_device_count=two", "Couldn't interpret value two"),
        ("none_such", 'Could not open file "none_such"'),
    ],
)
def test_flags_that_xla_refuses_are_one_line(flags, said, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(InputError) as refused:
        check_devices()
    line = str(refused.value)
    assert line.startswith(f"XLA refuses the environment variable XLA_FLAGS={flags!r} ({said}")
    assert line.endswith("the variable unset") and "\n" not in line


def test_flags_that_xla_takes_are_fine(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    check_devices()


def test_a_default_device_that_is_not_there_is_one_line():
    jax.config.update("jax_default_device", "tpu")
    try:
        with pytest.raises(InputError, match="JAX_DEFAULT_DEVICE is tpu, .* what is there: "):
            check_devices()
        jax.config.update("jax_default_device", "cpu")
        check_devices()
    finally:
        jax.config.update("jax_default_device", None)
