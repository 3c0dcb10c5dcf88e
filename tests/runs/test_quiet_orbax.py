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


# What Python says of writes that nobody waits for any more, a line or a traceback each.
ABANDONED = """\
import asyncio, gc

from reoac_jax.runs.quiet_orbax import quiet_orbax

quiet_orbax()


async def write():
    raise ValueError("OUT_OF_RANGE")


async def save():
    {save}


try:
    asyncio.run(save())
except ValueError as error:
    print(error)
gc.collect()
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "save",
    [
        "one, other = (asyncio.ensure_future(write()) for _ in range(2)); await one",
        "others = [write() for _ in range(2)]; await write(); await asyncio.gather(*others)",
    ],
    ids=["fails at the same time", "is never begun"],
)
def test_a_write_beside_the_one_that_is_raised_says_nothing(save):
    done = subprocess.run(
        [sys.executable, "-c", ABANDONED.format(save=save)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("OUT_OF_RANGE\n", "")
