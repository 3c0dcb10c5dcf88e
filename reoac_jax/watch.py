"""Watches a running or finished run, of train or sft, from the terminal.

    python -m reoac_jax.watch runs/tiny/<timestamp>

Shows how far it is, each metric's last value and course, and the operators' shares, anew every
second until the run is finished or Ctrl-C. Where the output is no terminal: one summary, as text.
It only reads, and may be started and ended at any time.
"""

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reoac_jax.config import parse_options
from reoac_jax.runs.folder import CONFIG, METRICS, run_config
from reoac_jax.runs.metrics import MetricsTail
from reoac_jax.runs.sinks import flat_numbers
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.json_files import read_json_object
from reoac_jax.system.progress import is_terminal

_SECONDS = 1.0  # between looks
_BLOCKS = "▁▂▃▄▅▆▇█"
_COURSE = 24  # characters of a sparkline
_SHARES = "operator_shares/"
# First what a reader looks for first; the others follow in the order of the file.
_FIRST = ("reward", "accuracy", "return", "cost", "forward_passes", "loss", "nelbo")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reoac_jax.watch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN_DIR", help="a run's folder, runs/<exp>/<time>")
    run = run_config(parse_options(parser, argv).run).parent
    look = _looker(run)
    view = look()
    if not is_terminal(sys.stdout):
        print("\n".join(summary(view)))
        return 0
    try:
        with Live(render(view), console=Console(), auto_refresh=False) as live:
            while not view.finished:
                time.sleep(_SECONDS)
                view = look()
                live.update(render(view), refresh=True)
    except KeyboardInterrupt:
        pass  # the usual way to stop watching
    return 0


@dataclasses.dataclass(frozen=True)
class RunView:
    """What one look at a run found.

    Attributes:
      run: its folder. headline: what it is, in words.
      unit: "iteration" or "step". done, total: how many of them.
      series: each metric's values so far, oldest first, `a/b` for nested ones.
      quiet: seconds since the last line of metrics; None before the first.
      left: seconds that the rest will take at the pace so far; None if unknown.
    """

    run: Path
    headline: str
    unit: str
    done: int
    total: int
    series: Mapping[str, Sequence[float]]
    quiet: float | None
    left: float | None

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    @property
    def state(self) -> str:
        """How far the run is, in words."""
        if self.quiet is None:
            return "no metrics yet"
        words = f"{self.done} of {self.total} {self.unit}s"
        if self.finished:
            return f"{words}, finished"
        if self.left is not None:
            words += f", about {duration(self.left)} left"
        return f"{words}; last line {duration(self.quiet)} ago"


def _looker(run: Path) -> Callable[[], RunView]:
    """A function that looks at the run each time it is called."""
    tail = MetricsTail(run / METRICS)

    def look() -> RunView:
        return view_of(run, config, tail.read(), tail.age())

    # Not validated: a run of an earlier version, with other keys, can be looked at as well.
    config = read_json_object(run / CONFIG, "a run's configuration")
    try:
        look()
    except (LookupError, TypeError) as error:
        raise InputError(
            f"{run / CONFIG} cannot be read ({type(error).__name__}: {error}); expected a run's"
        ) from error
    return look


def view_of(
    run: Path,
    config: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    quiet: float | None,
) -> RunView:
    """A look at a run whose `metrics.jsonl` holds `lines`, the last one `quiet` seconds ago."""
    what, unit = "run", "iteration"
    done, total = 0, config["train"]["iterations"]
    if any("learning_rate" in line or "nelbo" in line for line in lines):
        # A step's number says how many are behind it, an iteration's starts from 0.
        what, unit = f"fine-tuning ({config['sft']['mode']})", "step"
        done, total = lines[-1]["iteration"], config["sft"]["steps"]
    elif lines:
        what = f"training ({config['backbone']['finetune_mode']})"
        done = lines[-1]["iteration"] + 1
    series: dict[str, list[float]] = {}
    for line in lines:
        for name, value in flat_numbers(line).items():
            if name != "iteration":
                series.setdefault(name, []).append(value)
    names = [name for name in _FIRST if name in series]
    ordered = {name: series[name] for name in [*names, *(n for n in series if n not in names)]}
    return RunView(
        run=run,
        headline=f"{config['exp_name']}: {what} on {config['task']['name']}",
        unit=unit,
        done=done,
        total=total,
        series=ordered,
        quiet=quiet if lines else None,
        left=_seconds_left(series, total - done),
    )


def _seconds_left(series: Mapping[str, Sequence[float]], units: int) -> float | None:
    """At the pace of the last ten lines."""
    if "seconds_per_step" in series:
        pace = series["seconds_per_step"][-10:]
    elif "rollout_seconds" in series and "update_seconds" in series:
        both = zip(series["rollout_seconds"], series["update_seconds"], strict=True)
        pace = [rollout + update for rollout, update in both][-10:]
    else:
        return None
    return units * sum(pace) / len(pace)


def sparkline(values: Sequence[float], width: int = _COURSE) -> str:
    """The values' course in at most `width` characters, from their lowest to their highest.

    More values than characters are averaged in groups of nearly equal size.
    """
    count = min(width, len(values))
    bounds = [round(i * len(values) / count) for i in range(count + 1)] if count else []
    means = [
        sum(values[a:b]) / (b - a) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b > a
    ]
    if not means:
        return ""
    low, high = min(means), max(means)
    if high == low:
        return _BLOCKS[0] * len(means)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((value - low) / (high - low) * top)] for value in means)


def duration(seconds: float) -> str:
    """`12 s`, `3 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def render(view: RunView) -> RenderableType:
    """The view for a terminal."""
    metrics = Table(box=None, pad_edge=False)
    metrics.add_column("metric")
    metrics.add_column("last", justify="right", style="bold")
    metrics.add_column("course", style="cyan")
    metrics.add_column("lowest", justify="right", style="dim")
    metrics.add_column("highest", justify="right", style="dim")
    shares = Table(box=None, pad_edge=False)
    shares.add_column("operator")
    shares.add_column("share", justify="right", style="bold")
    shares.add_column("")
    shares.add_column("course", style="cyan")
    for name, values in view.series.items():
        if name.startswith(_SHARES):
            bar = ProgressBar(total=1.0, completed=values[-1], width=_COURSE)
            operator = name.removeprefix(_SHARES)
            shares.add_row(operator, f"{values[-1]:.1%}", bar, sparkline(values))
        else:
            metrics.add_row(name, _short(values[-1]), sparkline(values), *_range(values))
    progress = Table.grid(padding=(0, 2))
    progress.add_row(ProgressBar(total=view.total, completed=view.done, width=32), view.state)
    parts: list[RenderableType] = [
        Text(view.headline, "bold"),
        Text(str(view.run), "dim"),
        progress,
    ]
    if metrics.row_count:
        parts += [Text(), metrics]
    if shares.row_count:
        parts += [Text(), shares]
    return Group(*parts)


def summary(view: RunView) -> list[str]:
    """The view as plain lines."""
    lines = [view.headline, str(view.run), view.state]
    width = max(map(len, view.series), default=0)
    for name, values in view.series.items():
        low, high = _range(values)
        lines.append(
            f"{name:<{width}}  {_short(values[-1]):>9}  {low:>9} to {high:<9}  {sparkline(values)}"
        )
    return lines


def _range(values: Sequence[float]) -> tuple[str, str]:
    return _short(min(values)), _short(max(values))


def _short(value: float) -> str:
    return f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(run_command(main))
