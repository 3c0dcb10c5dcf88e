"""What a process says where a save fails: its own line, and nothing of Orbax or TensorStore."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Small files fail first under the one limit, which Orbax logs; under the other those of the arrays,
# whose writes outlive the event loop, so that Python itself speaks of them when it lets them go.
SAVES = """\
import resource, sys
from pathlib import Path

import numpy as np

from reoac_jax.runs.checkpoints import RunCheckpoints
from reoac_jax.runs.folder import stopped_from_outside
from reoac_jax.system.errors import run_command

noise = np.random.default_rng(0).standard_normal(400_000).astype(np.float32)
items = {name: {f"w{i}": noise for i in range(4)} for name in ("actor", "critic", "optimizers")}
before = resource.getrlimit(resource.RLIMIT_FSIZE)


def save(argv):
    run = Path(argv[0])
    with stopped_from_outside(run), RunCheckpoints(run / "checkpoints", 2, 1) as checkpoints:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(run.name), before[1]))
        checkpoints.save(0, items, {"iteration": 0, "base_hash": ""}, 0.0)
    return 0


for limit in ("500", "8000"):
    assert run_command(save, [f"{sys.argv[1]}/{limit}"]) == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
"""


@pytest.mark.process
def test_one_line_of_a_save_that_fails_and_no_more_to_the_end_of_the_process(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SAVES, tmp_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert [line.startswith("error: ") for line in lines] == [True, True], done.stderr
    assert all("File too large" in line for line in lines)


TWO_FAIL = """\
import asyncio, gc

from reoac_jax.runs.quiet_orbax import quiet_orbax

quiet_orbax()


async def write(name):
    raise ValueError(f"OUT_OF_RANGE: {name}")


async def save():
    first, second = (asyncio.ensure_future(write(name)) for name in ("one", "two"))
    await first


try:
    asyncio.run(save())
except ValueError as error:
    print(error)
gc.collect()
"""


@pytest.mark.process
def test_of_two_writes_that_fail_at_once_the_second_says_nothing():
    """asyncio logs what nobody asked a task for, with a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_FAIL],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("OUT_OF_RANGE: one\n", "")


NEVER_BEGUN = """\
import asyncio, gc

from reoac_jax.runs.quiet_orbax import quiet_orbax

quiet_orbax()


async def write():
    pass


async def fail():
    raise ValueError("OUT_OF_RANGE")


async def save():
    writes = [write() for _ in range(2)]
    await fail()
    await asyncio.gather(*writes)


try:
    asyncio.run(save())
except ValueError as error:
    print(error)
gc.collect()
"""


@pytest.mark.process
def test_a_write_that_another_ones_failure_forestalls_says_nothing():
    done = subprocess.run(
        [sys.executable, "-c", NEVER_BEGUN],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("OUT_OF_RANGE\n", "")
