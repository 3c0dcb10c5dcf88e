"""How long `train` takes to its first finished iteration: with nothing compiled, and once more."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from reoac_jax.runs.metrics import MetricsTail

_ROOT = Path(__file__).resolve().parents[2]
_POLL = 0.05  # seconds
_IMPORTS = """
import time
began = time.perf_counter()
import reoac_jax.train
print(time.perf_counter() - began)
"""


def measure() -> dict[str, Any]:
    """Seconds of a first and a second start of `configs/tiny.py`, each a new process.

    imports: what the imports alone take, without the interpreter's own start and end.
    first_iteration, second_iteration: the part of each start that is the iteration's own rollout
    and update, with what was compiled for them.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        backbone = folder / "backbone"
        subprocess.run(
            [sys.executable, _ROOT / "convert" / "mdlm_to_flax.py", "--source",
             _ROOT / "data" / "tiny_mdlm", "--output", backbone],
            check=True, cwd=_ROOT, capture_output=True,
        )  # fmt: skip
        first, first_iteration = _start(folder, backbone, "first")
        second, second_iteration = _start(folder, backbone, "second")
        measured = subprocess.run(
            [sys.executable, "-c", _IMPORTS], check=True, cwd=_ROOT, capture_output=True, text=True
        )
        imports = float(measured.stdout)
    return {
        "first": first,
        "second": second,
        "share": second / first,
        "imports": imports,
        "first_iteration": first_iteration,
        "second_iteration": second_iteration,
    }


def _start(folder: Path, backbone: Path, name: str) -> tuple[float, float]:
    """Seconds to the end of the first iteration, and of the iteration itself."""
    overrides = {
        "backbone.path": backbone,
        "output_dir": folder / name,
        "train.iterations": 1,
        "compilation.cache_dir": folder / "compiled",
    }
    command = [sys.executable, "-m", "reoac_jax.train", "--config", "configs/tiny.py"]
    command += [f"--config.{key}={value}" for key, value in overrides.items()]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    began = time.monotonic()
    with open(folder / f"{name}.log", "w") as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            if any(file.stat().st_size for file in (folder / name).glob("*/*/metrics.jsonl")):
                break
            time.sleep(_POLL)
        seconds = time.monotonic() - began
        if process.wait():
            raise RuntimeError((folder / f"{name}.log").read_text())
    iteration = MetricsTail(next((folder / name).glob("*/*/metrics.jsonl"))).read()[0]
    return seconds, iteration["rollout_seconds"] + iteration["update_seconds"]
