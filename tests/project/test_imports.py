"""What starting a command does not import: libraries that take long and that it may not need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reoac_jax.__main__ import COMMANDS

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch", "transformers", "datasets", "matplotlib", "scipy", "pandas", "sympy", "wandb", "orbax",
}  # fmt: skip
# Imports the modules of some commands, has each print its help, and says what is there then.
STARTS = """
import contextlib, importlib, io, sys
from reoac_jax.system.errors import run_command

for module in sys.argv[1:]:
    main = importlib.import_module(f"reoac_jax.{module}").main
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert run_command(main, ["--help"]) == 0
    assert "usage:" in shown.getvalue()
print(*sorted(sys.modules))
"""


def start(*modules: str, **environment: str) -> subprocess.CompletedProcess:
    unset = ("XDG_CACHE_HOME", "MPLCONFIGDIR", "HF_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", STARTS, *modules], cwd=ROOT, capture_output=True, text=True,
        env=kept | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def imported_by(*modules: str) -> set[str]:
    return set(start(*modules).stdout.split())


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null"])
def test_every_command_starts_without_a_home_folder(home):
    assert start(*(COMMANDS | {"report": "report.__main__"}).values(), HOME=home).stderr == ""


def test_no_command_imports_what_only_some_of_its_uses_need():
    modules = [module for module in COMMANDS.values() if module != "report"]
    assert not imported_by(*modules) & HEAVY


@pytest.mark.parametrize("module", ["watch", "tasks.prepare", "evaluate", "lm_eval"])
def test_help_of_what_needs_no_model_yet_does_without_jax(module):
    assert not imported_by(module) & {*HEAVY, "jax", "flax"}


def test_a_report_imports_what_draws_and_no_model_library():
    assert imported_by("report.__main__") & HEAVY == {"matplotlib"}
