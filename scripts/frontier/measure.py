"""One row of the study measured, and one of its training runs made, unless they are there."""

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from ml_collections import FrozenConfigDict

from frontier.rows import Row, Rows, pack
from reoac_jax import train
from reoac_jax.backbone import save_backbone
from reoac_jax.backbone.store import tokenizer_files
from reoac_jax.config import config_hash, load_config
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import Policy
from reoac_jax.evaluation.scoring import evaluate_policy, scores
from reoac_jax.learning.exported import restore_backbone
from reoac_jax.learning.parts import Parts, Trained
from reoac_jax.runs.folder import CHECKPOINTS
from reoac_jax.system.errors import InputError, RunError
from reoac_jax.tasks import Problem, Task, make_task
from reoac_jax.tasks.problem_set import ProblemSet
from reoac_jax.tasks.task import Split

T = TypeVar("T")


class Study:
    """What all stages share: the options, the task, the rows, and programs that serve again."""

    def __init__(self, options: Any, overrides: Sequence[str], task: Task):
        self.options, self.overrides, self.task = options, list(overrides), task
        self.rows = Rows(options.output.with_suffix(".jsonl"), config_hash(self.config()))
        self._policies: dict[str, list[Policy]] = {}

    def config(self, file: str | None = None, **changes: Any) -> FrozenConfigDict:
        """The configuration with further keys changed."""
        return load_config(file or self.options.config, [*self.overrides, *as_options(changes)])

    def row(
        self,
        subject: str,
        seed: int,
        family: str,
        policy: str,
        split: Split,
        config: FrozenConfigDict,
        parts: Parts,
        trained: Trained,
    ) -> Row:
        """One policy of one subject on the first problems of a split."""
        problems = self.problems(split)
        key = {
            "subject": subject,
            "seed": seed,
            "family": family,
            "policy": policy,
            "split": split,
            "problems": problems,
            "config_hash": config_hash(config),
            # Of what was trained over a base, the run's own record says more than the base's hash.
            "backbone_hash": f"{parts.base_hash}{trained.record.get('config_hash', '')}",
        }

        def measure() -> dict[str, Any]:
            chosen = ProblemSet.load(self.task, split, parts.tokenizer, config, problems)
            runner = self.policy(policy, config, parts)
            evaluation = evaluate_policy(
                runner, config, parts, trained.params, trained.heads, self.task, chosen
            )
            result = scores(evaluation)
            low, high = result["interval_95"]
            return {
                "accuracy": result["accuracy"],
                "low": low,
                "high": high,
                "passes": result["forward_passes"],
                "passes_median": result["forward_passes_median"],
                "passes_max": result["forward_passes_max"],
                "cost": result["avg_cost"],
                "padding_share": result["padding_share"],
                "tokens_computed": result["tokens_computed"],
                "seconds": round(result["seconds"], 2),
                "correct": pack([grade.correct for grade in evaluation.grades]),
            }

        return self.rows.measured(key, measure)

    def has(
        self,
        subject: str,
        seed: int,
        config: FrozenConfigDict,
        base_hash: str,
        wanted: Iterable[tuple[str, str, Split]],
    ) -> bool:
        """Whether all that is wanted of a training run is there: families, policies and splits.

        Then the run need not be made again.
        """
        there = {
            (row["family"], row["policy"], row["split"], row["problems"])
            for row in self.rows.all
            if (row["subject"], row["seed"], row["config_hash"])
            == (subject, seed, config_hash(config))
            and row["backbone_hash"].startswith(base_hash)
        }
        return {(*each, self.problems(each[-1])) for each in wanted} <= there

    def problems(self, split: Split) -> int:
        """How many are measured."""
        return int(self.options.dev if split == "dev" else self.options.test)

    def forget_programs(self) -> None:
        """Lets go of what was compiled; a process may hold so many memory mappings and no more."""
        self._policies.clear()
        jax.clear_caches()

    def policy(self, name: str, config: FrozenConfigDict, parts: Parts) -> Policy:
        """A runner of that policy; one that differs in a sampler's numbers alone is used again."""
        where = config_hash(config)
        for made in self._policies.setdefault(where, []):
            try:
                return made.with_numbers(name)
            except ValueError:
                continue
        made = Policy(name, config, parts, sharding.make_mesh())
        self._policies[where].append(made)
        return made


def of_its_lengths(study: Study, known: Mapping[int, T]) -> T:
    """What is known of rows as long as the study's. Raises `InputError` for others."""
    gen_len = study.config().rollout.gen_len
    if gen_len not in known:
        raise InputError(
            f"{study.options.config}: rows of {gen_len}; expected one of {list(known)}, "
            "which this script knows"
        )
    return known[gen_len]


def answer_length(study: Study, parts: Parts, problem: Problem) -> int:
    """Tokens of the reference's text."""
    return len(parts.tokenizer.encode(study.task.reference_text(problem)))


@contextlib.contextmanager
def studying(options: argparse.Namespace, overrides: Sequence[str]) -> Iterator[Study]:
    """A study of `options.config` with `options.test` test problems, and `options.dev` others where
    there are any; its task is closed at the end."""
    given = vars(options)
    sizes = {f"task.{split}_size": given[split] for split in ("dev", "test") if split in given}
    overrides = [*overrides, *as_options(sizes)]
    config = load_config(options.config, overrides)
    task = make_task(config.task, config.grader)
    try:
        yield Study(options, overrides, task)
    finally:
        task.close()


def as_options(changes: Mapping[str, Any]) -> list[str]:
    return [f"--config.{key}={value}" for key, value in changes.items()]


def run_parent(study: Study, label: str, config: FrozenConfigDict) -> Path:
    """Where the training runs of a label lie."""
    return Path(config.output_dir) / f"{study.options.output.name}_{label.replace(' ', '_')}"


def trained_run(
    study: Study, label: str, file: str, config: FrozenConfigDict, changes: Mapping[str, Any]
) -> Path:
    """The folder of a finished run: an earlier one of that name, gone on with, or a new one."""
    parent = run_parent(study, label, config)
    earlier = sorted(parent.glob("*/checkpoints/[0-9]*"))
    if earlier:
        argv = ["--resume", str(earlier[-1].parents[1])]
    else:
        options = as_options({**changes, "seed": config.seed, "exp_name": parent.name})
        argv = ["--config", file, *study.overrides, *options]
    if train.main(argv) != 0:
        raise RunError(
            f"the training run {parent.name} was stopped; the same command goes on with it"
        )
    return max(parent.iterdir(), key=lambda run: run.name)


def kept_backbone(folder: Path, run: Callable[[], Path]) -> Path:
    """A folder with the backbone that a finished run left: written unless it is there."""
    if not folder.exists():
        made = run()
        sizes, params, base = restore_backbone(made / CHECKPOINTS)
        source = {"run": str(made)}
        save_backbone(folder, sizes, params, source=source, tokenizer=tokenizer_files(base))
    return folder
