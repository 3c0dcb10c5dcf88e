"""`index.html`: everything in one file that opens from disk."""

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

import reoac_jax
from reoac_jax.config import config_hash
from reoac_jax.config.reading import flatten
from reoac_jax.report.evaluations import EvaluationResult
from reoac_jax.report.picture import Picture
from reoac_jax.report.runs import Run, all_operators, value_of
from reoac_jax.report.theme import css_variables, operator_categories
from reoac_jax.runs.folder import CONFIG, evaluate_command
from reoac_jax.system.shell import shell_command

_ASSETS = resources.files("reoac_jax.report") / "assets"


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of values under columns; numbers stand to the right, but for the first column's."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    @property
    def numeric(self) -> list[bool]:
        return [
            place > 0 and any(isinstance(row[place], int | float) for row in self.rows)
            for place in range(len(self.columns))
        ]


def page(
    runs: Sequence[Run],
    evaluations: Sequence[EvaluationResult],
    sections: Mapping[str, Sequence[tuple[Picture, str]]],
) -> str:
    """The whole page. sections: title to pictures and their SVG (empty for absent ones)."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "shown": _shown,
        "config_hash": config_hash,
        "commands": _commands,
        "indented": lambda config: json.dumps(config, indent=2, ensure_ascii=False),
    }
    return environment.get_template("page.html").render(
        title=" and ".join(run.label for run in runs) if len(runs) < 3 else f"{len(runs)} runs",
        light=css_variables(dark=False),
        dark=css_variables(dark=True),
        style=_asset("style.css"),
        script=_asset("viewer.js"),
        runs=runs,
        summary=_summary(runs),
        sections=sections,
        evaluations=_evaluations(evaluations),
        differences=_differences(runs),
        traces=_traces(runs),
        version=reoac_jax.__version__,
        date=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _shown(value: Any) -> str:
    """A table's value in words; floats to four digits."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _summary(runs: Sequence[Run]) -> Table:
    shown = ("reward", "accuracy", "cost", "forward_passes")
    rows = []
    for run in runs:
        last = run.metrics[-1] if run.metrics else {}
        if run.is_fine_tuning:
            mode = value_of(run.config, "sft", "mode")
            done = f"step {last.get('iteration', 0)} of {value_of(run.config, 'sft', 'steps')}"
        else:
            mode = value_of(run.config, "backbone", "finetune_mode")
            done = f"{len(run.metrics)} of {value_of(run.config, 'train', 'iterations')}"
        rows.append(
            (
                run.label,
                value_of(run.config, "task", "name"),
                mode,
                done,
                *(last.get(name) for name in shown),
                run.sampled,
                run.checkpoints[-1] if run.checkpoints else None,
            )
        )
    columns = ("run", "task", "mode", "iterations", *(f"last {name}" for name in shown),
               "sampled episodes", "last checkpoint")  # fmt: skip
    return Table([name.replace("_", " ") for name in columns], rows)


def _evaluations(evaluations: Sequence[EvaluationResult]) -> Table:
    rows = [
        (e.label, e.task, f"{e.accuracy:.1%}", f"{e.low:.1%} to {e.high:.1%}", e.correct,
         e.samples, float(e.cost), float(e.forward_passes), float(e.steps), e.max_steps)
        for e in evaluations
    ]  # fmt: skip
    columns = ("policy", "task", "accuracy", "95 % interval", "correct", "problems", "cost",
               "forward passes", "steps", "most steps")  # fmt: skip
    return Table(columns, rows)


def _differences(runs: Sequence[Run]) -> Table:
    """The keys in which the runs' configurations differ."""
    flat = [flatten(run.config) for run in runs]
    rows = [
        (key, *values)
        for key in sorted(set().union(*flat))
        if len(set(values := [json.dumps(config.get(key)) for config in flat])) > 1
    ]
    return Table(("key", *(run.label for run in runs)), rows)


def _traces(runs: Sequence[Run]) -> str:
    """The viewer's data; no text in it can end the script element."""
    categories = operator_categories(all_operators(runs))
    data = {
        "colours": {name: f"var(--{category})" for name, category in categories.items()},
        "runs": [{"label": r.label, "place": i} for i, r in enumerate(runs) if r.episodes],
        "episodes": [
            {
                "run": place,
                "iteration": episode.iteration,
                "number": episode.number,
                "id": episode.problem_id,
                "correct": episode.correct,
                "reward": round(episode.reward, 3),
                "cost": round(episode.cost, 3),
                "branched": episode.branched,
                "repaired": episode.repaired,
                "trace": episode.trace,
            }
            for place, run in enumerate(runs)
            for episode in run.episodes
        ],
    }
    plain = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return plain.replace("<", "\\u003c")


def _commands(run: Run) -> str:
    config, command = run.folder / CONFIG, "sft" if run.is_fine_tuning else "train"
    lines = [
        shell_command(command, "--config", config),
        shell_command(command, "--resume", run.folder),
    ]
    if not run.is_fine_tuning:
        lines.append(evaluate_command(run.folder, value_of(run.config, "train", "order") or ()))
    return "\n".join(lines)
