"""The folder of a run: `<output_dir>/<exp_name>/<timestamp>/` (DESIGN.md, section 11)."""

import datetime
import itertools
from pathlib import Path

from ml_collections import ConfigDict

from reoac_jax.config import to_json
from reoac_jax.errors import InputError
from reoac_jax.files import write_json

CONFIG = "config.json"
METRICS = "metrics.jsonl"
SAMPLES = "samples"
CHECKPOINTS = "checkpoints"
REPORT = "report"


def create_run(config: ConfigDict) -> Path:
    """Makes a new folder, unlike any other run's, and writes the configuration into it."""
    parent = Path(config.output_dir) / config.exp_name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        for count in itertools.count(1):
            run = parent / (stamp if count == 1 else f"{stamp}-{count}")
            try:
                run.mkdir()
                break
            except FileExistsError:
                continue
        write_json(run / CONFIG, to_json(config))
    except OSError as error:
        raise InputError(
            f"cannot make a run folder in {parent} ({error.strerror}); expected output_dir and "
            "exp_name to name a place that can be written"
        ) from error
    return run


def open_run(path: str | Path) -> Path:
    """An existing run's folder. Raises `InputError` if it is none."""
    run = Path(path)
    if not (run / CONFIG).is_file():
        raise InputError(f"{run} is no run folder: it has no {CONFIG}; expected runs/<exp>/<time>")
    return run


def newest_checkpoints(config: ConfigDict) -> Path:
    """`checkpoints/` of the newest run of this configuration's `exp_name` that has one saved."""
    parent = Path(config.output_dir) / config.exp_name
    runs = [
        run
        for run in (parent.iterdir() if parent.is_dir() else ())
        # Fine-tuning leaves runs here too; only a policy's checkpoint has an actor.
        if any((run / CHECKPOINTS).glob("[0-9]*/actor"))
    ]
    if not runs:
        raise InputError(
            f"no run with a checkpoint in {parent}; expected one from python -m reoac_jax.train, "
            "or --checkpoint"
        )
    return max(runs, key=lambda run: (run / CHECKPOINTS).stat().st_mtime) / CHECKPOINTS
