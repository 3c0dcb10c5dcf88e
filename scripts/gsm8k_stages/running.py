"""Runs the stages that are not done, and knows which ones are.

WORK/stages/NAME.json says of a stage that it has begun, or is finished, and with which hash. A
result of another hash is never used nor overwritten.
"""

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
from frontier.budgets import Point, upper_hull

from gsm8k_stages.points import read_points
from gsm8k_stages.sizes import ROOT
from gsm8k_stages.stages import CHOSEN, Stage
from reoac_jax.system.errors import InputError, RunError
from reoac_jax.system.files import write_json
from reoac_jax.system.json_files import read_json_object
from reoac_jax.system.shell import quoted, shell_command

State = Literal["to do", "begun", "finished"]
_STOPPED = (130, 143)  # a training that saved and stopped


class Work:
    """The folder of one run of the chain.

    data: what `{data}` stands for; None: nothing asks for it.
    """

    def __init__(self, folder: Path, data: Path | None):
        self.folder, self._data = folder, data

    def state(self, stage: Stage, wanted: str) -> State:
        """How far a stage is. wanted: its hash.

        Raises `InputError` where something of another configuration is there.
        """
        path = self._record(stage)
        if not path.is_file():
            if self._there(stage):
                raise InputError(
                    f"{self.folder / stage.result} is there, and no {path}; expected --work to "
                    "name a folder of this command's alone"
                )
            return "to do"
        record = read_json_object(path, "what an earlier call wrote", what="--work:")
        if record.get("hash") != wanted:
            raise InputError(
                f"{path} is of another configuration (hash {str(record.get('hash'))[:12]}, "
                f"expected {wanted[:12]}); expected another --work, or that folder removed"
            )
        if not self._there(stage):
            return "begun" if record.get("state") == "begun" else "to do"
        return "finished" if stage.whole or record.get("state") == "finished" else "begun"

    def run(self, stage: Stage, wanted: str) -> int:
        """Runs a stage, from where it stopped if it had begun. Returns 0, or that of a signal.

        Raises `RunError` where it fails.
        """
        argv, began = self.command(stage), time.monotonic()
        print(f"== {stage.name}: {shell(stage, argv)}", flush=True)
        record = {"name": stage.name, "hash": wanted, "state": "begun", "command": argv}
        write_json(self._record(stage), record)
        code = importlib.import_module(stage.module).main(argv)
        if code in _STOPPED:
            return code
        if code != 0:
            raise RunError(f"stage {stage.name} ended with code {code}, for the reason above")
        record |= {"state": "finished", "seconds": round(time.monotonic() - began, 1)}
        write_json(self._record(stage), record)
        jax.clear_caches()  # the next stage has other programs
        return 0

    def command(self, stage: Stage) -> list[str]:
        """The arguments, with folders, runs and policies in the places of their names."""
        if stage.run is not None and (earlier := self._runs(stage.run, "checkpoints/[0-9]*")):
            return ["--resume", str(earlier[-1])]
        found: list[str] = []
        for text in stage.arguments:
            found += self._chosen() if text == CHOSEN else [self._filled(text, self.run_folder)]
        return found

    def shown(self, stage: Stage) -> str:
        """The command as one would type it, with what stages ahead have yet to find in words."""

        def run_folder(name: str) -> Path:
            return (self._runs(name, "checkpoints") or [self.folder / "runs" / name / "TIME"])[-1]

        words = [self._filled(text, run_folder) for text in stage.arguments if text != CHOSEN]
        if CHOSEN in stage.arguments:
            words += ["--policy", "WHAT-DEV-CHOOSES"]
        return shell(stage, words)

    def begun(self) -> str | None:
        """The stage that is being run, or was when its process died; None: none is."""
        for path in sorted((self.folder / "stages").glob("*.json")):
            record = read_json_object(path, "what an earlier call wrote", what="--work:")
            if record.get("state") == "begun":
                return str(record["name"])
        return None

    def run_folder(self, name: str) -> Path:
        """The newest run of that name with a checkpoint."""
        if not (runs := self._runs(name, "checkpoints")):
            raise InputError(f"{self.folder}/runs/{name} holds no run; expected a finished one")
        return runs[-1]

    def _filled(self, text: str, run_folder: Callable[[str], Path]) -> str:
        before, mark, rest = text.partition("{run:")
        if mark:
            name, _, after = rest.partition("}")
            return f"{before}{run_folder(name)}{after}"
        if text.startswith("configs/"):
            return str(ROOT / text)
        return text.replace("{work}", str(self.folder)).replace("{data}", str(self._data))

    def _chosen(self) -> list[str]:
        """`--policy` for what lies on a sampler's upper hull on the development split."""
        families: dict[str, list[Point]] = {}
        for family, point in read_points(self.folder / "dev.jsonl"):
            families.setdefault(family, []).append(point)
        chosen = [point.name for points in families.values() for point in upper_hull(points)]
        return [text for name in chosen for text in ("--policy", name)]

    def _runs(self, name: str, inside: str) -> list[Path]:
        depth = inside.count("/")
        found = (self.folder / "runs" / name).glob(f"*/{inside}")
        return sorted({path.parents[depth] for path in found})

    def _record(self, stage: Stage) -> Path:
        return self.folder / "stages" / f"{stage.name}.json"

    def _there(self, stage: Stage) -> bool:
        return any(self.folder.glob(stage.result))


def shell(stage: Stage, argv: Sequence[str]) -> str:
    """The command as one would type it."""
    if "." in stage.module:
        module = stage.module.removeprefix("reoac_jax.").removesuffix(".__main__")
        return shell_command(module, *argv)
    return " ".join([f"python scripts/{stage.module}.py", *map(quoted, argv)])


def run_all(stages: Sequence[Stage], hashes: Mapping[str, str], work: Work) -> int:
    """Runs what is not finished, in order. Returns 0, or the code of the signal that stopped it."""
    states: dict[str, Any] = {stage.name: work.state(stage, hashes[stage.name]) for stage in stages}
    for stage in stages:
        if states[stage.name] == "finished":
            print(f"== {stage.name}: is there", flush=True)
        elif code := work.run(stage, hashes[stage.name]):
            return code
    return 0
