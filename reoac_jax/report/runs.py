"""What a run's folder holds, read as far as it can be: a run may still be going, or was killed."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reoac_jax.policy.distributions import AnyPositions
from reoac_jax.report.traces import trace
from reoac_jax.runs.folder import CHECKPOINTS, CONFIG, METRICS, SAMPLES, run_config
from reoac_jax.runs.metrics import parse_metrics
from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object


@dataclasses.dataclass(frozen=True)
class Episode:
    """One sampled episode of `t` steps.

    file: where it was read. iteration, number: of training, and its place in the iteration.
    features: float32 `[t, F]`, by `feature_names`. operator: int `[t]`, that was charged, of
    the run's `operators`.
    logits, q: float32 `[t, A]`, `[t, 0]` where positions were chosen. episode_return: what the
    critic was to predict.
    branched, repaired: whether any step did. trace: `traces.trace` of it.
    """

    file: Path
    iteration: int
    number: int
    problem_id: str
    correct: bool
    reward: float
    cost: float
    episode_return: float
    feature_names: tuple[str, ...]
    features: np.ndarray
    operator: np.ndarray
    logits: np.ndarray
    q: np.ndarray
    branched: bool
    repaired: bool
    trace: str


@dataclasses.dataclass(frozen=True)
class Run:
    """label: short and unlike any other run's. metrics: the whole lines of metrics.jsonl.

    operators: names of its operators, in the order of the heads' outputs.
    sampled: how many episodes the run wrote, of which `episodes` were read.
    checkpoints: iterations saved, ascending. notes: what the reader should know, one line each.
    """

    label: str
    folder: Path
    config: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    operators: tuple[str, ...]
    sampled: int
    episodes: Sequence[Episode]
    checkpoints: Sequence[int]
    notes: Sequence[str]

    @property
    def is_fine_tuning(self) -> bool:
        """Whether reoac_jax.sft made it; only its lines hold a plain `loss`."""
        return any("loss" in line for line in self.metrics)

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Iterations and values, float `[n]` each, of the lines that hold a number under `key`."""
        points = [
            (line["iteration"], line[key])
            for line in self.metrics
            if isinstance(line.get(key), int | float)
        ]
        pairs = np.array(points, float).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


def read_runs(paths: Sequence[str], most_episodes: int) -> list[Run]:
    """Reads runs; `most_episodes` of all are read, as many of each, spread over its iterations.

    Raises `InputError` for a path that is no run, is named twice, or has no readable config.json.
    """
    folders = [run_config(path).parent for path in paths]
    resolved = [folder.resolve() for folder in folders]
    for place, folder in enumerate(resolved):
        if folder in resolved[:place]:
            raise InputError(f"run {folders[place]} is named twice; expected different runs")
    share = most_episodes // len(folders)
    return [
        _read_run(folder, label, share)
        for folder, label in zip(folders, _labels(resolved), strict=True)
    ]


def all_operators(runs: Sequence[Run]) -> list[str]:
    """The operators of all runs, each once, in the order in which they are met."""
    return list(dict.fromkeys(name for run in runs for name in run.operators))


def value_of(config: Mapping[str, Any], section: str, key: str) -> Any:
    """A key of a configuration that may be another version's; None where it has none."""
    values = config.get(section)
    return values.get(key) if isinstance(values, Mapping) else None


def _operators(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What `operators.names` of a run's configuration holds; nothing where it has none, and the one
    name that its samples have where positions were chosen."""
    if value_of(config, "heads", "policy") == AnyPositions.name:
        return (AnyPositions.name,)
    names = value_of(config, "operators", "names")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _labels(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart, one part longer for the first of them.

    A run's folder is a time stamp, so that one run alone is `<exp_name>/<timestamp>`.
    """
    longest = max(len(folder.parts) for folder in folders)
    for count in range(2, longest + 1):
        labels = ["/".join(folder.parts[-count:]) for folder in folders]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]


def _read_run(folder: Path, label: str, most_episodes: int) -> Run:
    config = read_json_object(folder / CONFIG, "a run's configuration")
    metrics, notes = read_metrics(folder / METRICS)
    operators = _operators(config)
    files = sorted((folder / SAMPLES).glob("[0-9]*_[0-9]*.json"))
    episodes, damaged = _read_episodes(_spread(files, most_episodes), operators)
    notes += damaged
    if not files:
        notes.append("No episode has been sampled yet: samples/ is empty.")
    elif len(files) > most_episodes:
        notes.append(
            f"{most_episodes} of the {len(files)} sampled episodes are shown, spread evenly over "
            "the iterations; --episodes takes more."
        )
    saved = [int(path.name) for path in (folder / CHECKPOINTS).glob("*") if path.name.isdigit()]
    if not saved:
        notes.append("No checkpoint has been saved yet.")
    return Run(
        label, folder, config, metrics, operators, len(files), episodes, sorted(saved), notes
    )


def read_metrics(path: Path) -> tuple[Sequence[Mapping[str, Any]], list[str]]:
    """The whole lines of a metrics file, and notes on the rest; nothing is raised for damage."""
    if not path.exists():
        return [], [f"There are no metrics yet: {path.name} does not exist."]
    lines, notes = parse_metrics(path.read_bytes()), []
    for number, line in enumerate(lines, start=1):
        if line is None:
            cut = "was cut off in the middle (the run was killed, or is writing)"
            what = cut if number == len(lines) else "is damaged"
            notes.append(f"Line {number} of {path.name} {what}; it is left out.")
    records = [line for line in lines if line is not None]
    if not records:
        notes.append(f"There are no metrics yet: {path.name} holds no whole line.")
    return records, notes


def _spread(files: Sequence[Path], most: int) -> list[Path]:
    """`most` of the files, evenly spread, the last one among them; all if there are fewer."""
    if len(files) <= most:
        return list(files)
    places = np.linspace(len(files) - 1, 0, most).round().astype(int)[::-1]
    return [files[place] for place in places]


def _read_episodes(
    files: Iterable[Path], operators: tuple[str, ...]
) -> tuple[list[Episode], list[str]]:
    episodes, notes = [], []
    for file in files:
        try:
            record = read_json_object(file, "an episode, as training writes them")
            episodes.append(_episode(file, record, operators))
        except InputError as error:
            notes.append(f"{error}; it is left out.")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}"[:120]
            notes.append(f"Sample {file.name} cannot be read ({reason}); it is left out.")
    return episodes, notes


def _episode(file: Path, record: Mapping[str, Any], operators: tuple[str, ...]) -> Episode:
    steps = record["steps"]
    names = tuple(steps[0]["features"])
    return Episode(
        file=file,
        iteration=record["iteration"],
        number=record["episode"],
        problem_id=record["id"],
        correct=record["correct"],
        reward=record["reward"],
        cost=record["cost"],
        episode_return=record["return"],
        feature_names=names,
        features=np.array([[step["features"][name] for name in names] for step in steps]),
        operator=np.array([operators.index(step["operator"]) for step in steps]),
        logits=np.array([step["logits"] for step in steps]),
        q=np.array([step["q"] for step in steps]),
        branched=any("candidates" in step for step in steps),
        repaired=any(step["repaired"] for step in steps),
        trace=trace(record, operators),
    )
