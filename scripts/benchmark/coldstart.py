"""How long `train` takes to its first finished iteration: with nothing compiled, and once more."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_POLL = 0.05  # seconds


def measure() -> dict[str, Any]:
    """Seconds of a first and a second start of `configs/tiny.py`, each a new process."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        backbone = folder / "backbone"
        subprocess.run(
            [sys.executable, _ROOT / "convert" / "mdlm_to_flax.py", "--source",
             _ROOT / "data" / "tiny_mdlm", "--output", backbone],
            check=True, cwd=_ROOT, capture_output=True,
        )  # fmt: skip
        seconds = [_start(folder, backbone, name) for name in ("first", "second")]
    return {"first": seconds[0], "second": seconds[1], "share": seconds[1] / seconds[0]}


def _start(folder: Path, backbone: Path, name: str) -> float:
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
    return seconds
