"""`index.html`: everything in one file that opens from disk."""

import datetime
import html
import json
import string
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import reoac_jax
from reoac_jax.config import config_hash
from reoac_jax.policy.operators import OPERATORS
from reoac_jax.report.evaluations import EvaluationResult
from reoac_jax.report.picture import Picture
from reoac_jax.report.runs import Run
from reoac_jax.report.theme import css_variables
from reoac_jax.runs.folder import CHECKPOINTS, CONFIG
from reoac_jax.system.shell import shell_command

_ASSETS = resources.files("reoac_jax.report") / "assets"


def page(
    runs: Sequence[Run],
    evaluations: Sequence[EvaluationResult],
    sections: Mapping[str, Sequence[tuple[Picture, str]]],
) -> str:
    """The whole page. sections: title to pictures and their SVG (empty for absent ones)."""
    parts = {"Summary": _summary(runs)}
    for title, pictures in sections.items():
        table = _evaluation_table(evaluations) if title == "Comparison" else ""
        parts[title] = table + "".join(_figure(picture, svg) for picture, svg in pictures)
    parts["Episodes"] = _viewer(runs)
    parts["Configuration"] = _configuration(runs)
    title = " and ".join(run.label for run in runs) if len(runs) < 3 else f"{len(runs)} runs"
    return string.Template(_asset("page.html")).substitute(
        title=html.escape(f"Report of {title}"),
        light=css_variables(dark=False),
        dark=css_variables(dark=True),
        style=_asset("style.css"),
        navigation="".join(f'<a href="#{name.lower()}">{name}</a>' for name in parts),
        sections="".join(
            f'<section id="{name.lower()}"><h2>{name}</h2>{content}</section>\n'
            for name, content in parts.items()
        ),
        version=reoac_jax.__version__,
        date=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        traces=_traces(runs),
        script=_asset("viewer.js"),
    )


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Numbers to the right; floats to four digits."""

    def cell(tag: str, text: str, number: bool) -> str:
        return f"<{tag}{' class=number' if number else ''}>{html.escape(text)}</{tag}>"

    def shown(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    numeric = [
        any(isinstance(row[i], int | float) for row in rows) and i > 0 for i in range(len(columns))
    ]
    head = "".join(cell("th", name, number) for name, number in zip(columns, numeric, strict=True))
    body = "".join(
        "<tr>"
        + "".join(cell("td", shown(x), number) for x, number in zip(row, numeric, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _summary(runs: Sequence[Run]) -> str:
    shown = ("reward", "accuracy", "cost", "forward_passes")
    rows = []
    for run in runs:
        config, last = run.config, run.metrics[-1] if run.metrics else {}
        section, key = ("sft", "steps") if run.is_fine_tuning else ("train", "iterations")
        mode = _of(config, "sft" if run.is_fine_tuning else "backbone",
                   "mode" if run.is_fine_tuning else "finetune_mode")  # fmt: skip
        rows.append(
            (
                run.label,
                _of(config, "task", "name"),
                mode,
                f"{len(run.metrics)} of {_of(config, section, key)}"
                if not run.is_fine_tuning
                else f"step {last.get('iteration', 0)} of {_of(config, section, key)}",
                *(last.get(name) for name in shown),
                run.sampled,
                run.checkpoints[-1] if run.checkpoints else None,
            )
        )
    columns = ("run", "task", "mode", "iterations", *(f"last {name}" for name in shown),
               "sampled episodes", "last checkpoint")  # fmt: skip
    notes = [
        f'<p class="note"><strong>{html.escape(run.label)}</strong>: {html.escape(note)}</p>'
        for run in runs
        for note in run.notes
    ]
    return _table([name.replace("_", " ") for name in columns], rows) + "".join(notes)


def _of(config: Mapping[str, Any], section: str, key: str) -> Any:
    """A key of a configuration that may be another version's."""
    values = config.get(section)
    return values.get(key) if isinstance(values, Mapping) else None


def _figure(picture: Picture, svg: str) -> str:
    title = f'<h3 id="title-{picture.name}">{html.escape(picture.title)}</h3>'
    caption = html.escape(picture.caption)
    if picture.figure is None:
        return f'<figure id="{picture.name}">{title}<p class="absent">{caption}</p></figure>'
    links = (
        f'<a href="pictures/{picture.name}.png">PNG</a> <a href="series/{picture.name}.csv">CSV</a>'
    )
    scrolls = ' class="scrolls"' if picture.scrolls else ""
    return (
        f'<figure id="{picture.name}"{scrolls}>{title}<div class="scroll">{svg}</div>'
        f"<figcaption>{caption} {links}</figcaption></figure>\n"
    )


def _evaluation_table(evaluations: Sequence[EvaluationResult]) -> str:
    if not evaluations:
        return ""
    rows = [
        (e.label, e.task, f"{e.accuracy:.1%}", f"{e.low:.1%} to {e.high:.1%}", e.correct,
         e.samples, float(e.cost), float(e.forward_passes), float(e.steps), e.max_steps)
        for e in evaluations
    ]  # fmt: skip
    columns = ("policy", "task", "accuracy", "95 % interval", "correct", "problems", "cost",
               "forward passes", "steps", "most steps")  # fmt: skip
    return _table(columns, rows)


def _viewer(runs: Sequence[Run]) -> str:
    if not any(run.episodes for run in runs):
        return (
            '<p class="absent">There is no sampled episode yet. '
            "<code>logging.samples_per_iter</code> says how many an iteration writes.</p>"
        )
    return _asset("viewer.html")


def _traces(runs: Sequence[Run]) -> str:
    """The viewer's data; no text in it can end the script element."""
    data = {
        "operators": OPERATORS,
        "colours": [f"var(--category-{number + 1})" for number in range(len(OPERATORS))],
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


def _configuration(runs: Sequence[Run]) -> str:
    parts = []
    flat = [_flatten(run.config) for run in runs]
    if len(runs) > 1:
        keys = sorted(set().union(*flat))
        rows = [
            (key, *values)
            for key in keys
            if len(set(values := [json.dumps(config.get(key)) for config in flat])) > 1
        ]
        parts.append("<h3>Where the runs differ</h3>")
        parts.append(_table(("key", *(run.label for run in runs)), rows))
    for run in runs:
        parts.append(f"<h3>{html.escape(run.label)}</h3><p>Hash of the configuration: ")
        parts.append(f"<code>{config_hash(run.config)}</code>. To repeat this run, go on with it, ")
        parts.append("and evaluate it:</p>")
        parts.append(f"<pre>{html.escape(_commands(run))}</pre>")
        text = html.escape(json.dumps(run.config, indent=2, ensure_ascii=False))
        parts.append(f"<details><summary>Every key</summary><pre>{text}</pre></details>")
    return "".join(parts)


def _commands(run: Run) -> str:
    config, command = run.folder / CONFIG, "sft" if run.is_fine_tuning else "train"
    lines = [
        shell_command(command, "--config", config),
        shell_command(command, "--resume", run.folder),
    ]
    if not run.is_fine_tuning:
        lines.append(
            shell_command(
                "evaluate", "--config", config, "--checkpoint", run.folder / CHECKPOINTS,
                "--output", run.folder / "evaluation.json",
            )
        )  # fmt: skip
    return "\n".join(lines)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
