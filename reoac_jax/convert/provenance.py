"""Where an exported backbone comes from: its origins, its run and the scores measured with it."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reoac_jax.backbone.store import read_source
from reoac_jax.config import config_hash
from reoac_jax.runs.checkpoints import find_checkpoint, read_record
from reoac_jax.runs.folder import CONFIG
from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object

_SCORES = ("task", "policy", "accuracy", "interval_95", "correct", "samples", "base_hash")


@dataclasses.dataclass(frozen=True)
class Run:
    """The training that a backbone or an overlay comes from.

    command: module that trained, train or sft. config: the run's, as nested JSON values.
    done: iterations or steps behind it. finetune_mode: what of the backbone was trained.
    versions: of the packages it ran with; empty where it did not record them.
    """

    command: str
    config: Mapping[str, Any]
    done: int
    finetune_mode: str
    versions: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What is known of an exported backbone.

    origins: `source.json` of the base, then of what that was made from, and so on to the root.
    base_hash: of the base's weights. run: None where nothing was trained or its configuration is
    not beside it. evaluations: JSON objects of `reoac_jax.evaluate`, of these very weights.
    """

    origins: Sequence[Mapping[str, Any]]
    base_hash: str
    run: Run | None
    evaluations: Sequence[Mapping[str, Any]]

    @property
    def hub_base(self) -> tuple[str | None, str | None]:
        """Name and revision of the root if it came from the hub, else None twice."""
        root = self.origins[-1]
        revision = root.get("revision")
        return (root["source"], revision) if revision else (None, None)


def of_checkpoint(checkpoint: str | Path, base: Path, evaluations: Iterable[str]) -> Provenance:
    """Of a checkpoint's backbone, over the base in the folder `base`.

    Evaluations lying in the run's folder are found by themselves.

    Args:
        evaluations: files of `reoac_jax.evaluate` to count in.

    Raises:
        InputError: a file of `evaluations` is none, or was made with other weights.
    """
    folder = find_checkpoint(checkpoint)
    record = read_record(folder)
    run_folder = folder.parent.parent
    trains_policy = (folder / "actor").is_dir()

    def same_weights(found: Mapping[str, Any]) -> bool:
        return (
            found["base_hash"] == record["base_hash"]
            and found.get("training_config_hash") == record["config_hash"]
            and found.get("iteration") == record["iteration"]
        )

    run = None
    if (run_folder / CONFIG).is_file():
        run = Run(
            command="train" if trains_policy else "sft",
            config=_read_object(run_folder / CONFIG),
            # train counts the iterations from 0, sft its steps from 1
            done=record["iteration"] + (1 if trains_policy else 0),
            finetune_mode=record["finetune_mode"],
            versions=record.get("versions", {}),
        )
    scores = _evaluations(run_folder, evaluations, same_weights, str(folder))
    return Provenance(_origins(base), record["base_hash"], run, scores)


def of_backbone(path: Path, evaluations: Iterable[str]) -> Provenance:
    """Of a converted or fine-tuned backbone's folder; otherwise as `of_checkpoint`."""
    source = read_source(path)
    base_hash = source["backbone_hash"]

    def same_weights(found: Mapping[str, Any]) -> bool:
        return (
            found["base_hash"] == base_hash
            and found.get("checkpoint") is None
            and found.get("adapter") in (None, "none")
        )

    run = None
    config_file = path.parent / CONFIG
    if "config_hash" in source and config_file.is_file():
        config = _read_object(config_file)
        if config_hash(config) == source["config_hash"]:  # it is the run that made this backbone
            run = Run("sft", config, source["steps"], source["mode"], source["versions"])
    found_in = path.parent if run else None
    scores = _evaluations(found_in, evaluations, same_weights, str(path))
    return Provenance(_origins(path), base_hash, run, scores)


def _origins(base: Path) -> list[Mapping[str, Any]]:
    origins: list[Mapping[str, Any]] = [read_source(base)]
    while "base" in origins[-1]:
        origins.append(origins[-1]["base"])
    return origins


def _evaluations(
    folder: Path | None, given: Iterable[str], same_weights: Any, what: str
) -> list[Mapping[str, Any]]:
    """Those in `folder` that fit, then the given ones, each once."""
    scores: list[Mapping[str, Any]] = []
    for file in sorted(folder.glob("*.json")) if folder else ():
        try:
            found = _read_object(file)
        except InputError:
            continue  # not ours
        if found.keys() >= set(_SCORES) and same_weights(found):
            scores.append(found)
    for name in given:
        found = _read_object(Path(name))
        missing = [key for key in _SCORES if key not in found]
        if missing:
            raise InputError(f"--eval {name} has no key {missing[0]}; expected what evaluate wrote")
        if not same_weights(found):
            made_with = found.get("checkpoint") or f"a backbone of hash {found['base_hash'][:12]}"
            raise InputError(f"--eval {name} was made with {made_with}; expected {what}")
        if found not in scores:
            scores.append(found)
    return scores


def _read_object(file: Path) -> dict[str, Any]:
    return read_json_object(file, "what the program wrote")
