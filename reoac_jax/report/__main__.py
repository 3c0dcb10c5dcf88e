"""Shows one or several runs in a page that opens in any browser, without network.

    python -m reoac_jax.report RUN_DIR [RUN_DIR ...] [--eval FILE ...] [--output DIR]

Writes DIR/index.html (all in one file: pictures, evaluations, the trace viewer), the pictures as
DIR/pictures/*.png and their numbers as DIR/series/*.csv; DIR is `report` in the first run's folder
unless named. --eval takes files that python -m reoac_jax.evaluate wrote; those in the runs' folders
are found without it. A run may still be going, or have been killed: the report says what is
missing.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from reoac_jax.config import parse_options
from reoac_jax.report import curves
from reoac_jax.report.comparison import accuracy_against_cost
from reoac_jax.report.critic import critic_against_return
from reoac_jax.report.evaluations import EvaluationResult, read_evaluations
from reoac_jax.report.operator_use import shares_by_iteration, shares_by_step
from reoac_jax.report.page import page
from reoac_jax.report.picture import Picture, inline_svg, save_picture, style
from reoac_jax.report.projection import feature_projection
from reoac_jax.report.relation_map import relation_maps
from reoac_jax.report.runs import Run, read_runs
from reoac_jax.runs.folder import REPORT
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import write_text
from reoac_jax.system.progress import ProgressLine

_EPISODES = 500  # a page of that many stays a few megabytes


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reoac_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="a run's folder")
    parser.add_argument("--eval", nargs="+", action="extend", default=[], metavar="FILE",
                        help="evaluations to compare")  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="default: RUN_DIR/report")
    shown = f"sampled episodes to show, of all runs together (default {_EPISODES})"
    parser.add_argument("--episodes", type=int, default=_EPISODES, metavar="N", help=shown)
    options = parse_options(parser, argv)
    if options.episodes < len(options.runs):
        expected = "one for each run at least"
        raise InputError(f"--episodes is {options.episodes}; expected {expected}")
    runs = read_runs(options.runs, options.episodes)
    evaluations = read_evaluations(options.eval, [run.folder for run in runs])
    output = Path(options.output) if options.output else runs[0].folder / REPORT
    if output.exists() and not output.is_dir():
        raise InputError(f"--output is {output}, a file; expected a folder")
    try:
        _write(runs, evaluations, output)
    except OSError as error:
        raise InputError(
            f"cannot write the report to {output} ({error.strerror}); expected --output to name a "
            "place that can be written"
        ) from error
    for run in runs:
        for note in run.notes:
            print(f"note: {run.label}: {note}")
    print(f"wrote {output / 'index.html'}")
    return 0


def _write(runs: Sequence[Run], evaluations: Sequence[EvaluationResult], output: Path) -> None:
    """Writes the report in the place of an earlier one, whose other pictures are removed."""
    pictures, series = output / "pictures", output / "series"
    earlier = {*pictures.glob("*.png"), *series.glob("*.csv")}
    sections = _sections(runs, evaluations)
    drawn: dict[str, list[tuple[Picture, str]]] = {title: [] for title in sections}
    count = sum(len(makers) for makers in sections.values())
    with style(), ProgressLine(count, "drawing", unit="picture") as progress:
        for title, makers in sections.items():
            for make in makers:
                for picture in make():
                    save_picture(picture, pictures, series)
                    earlier.discard(series / f"{picture.name}.csv")
                    if picture.figure is not None:
                        earlier.discard(pictures / f"{picture.name}.png")
                    svg = "" if picture.figure is None else inline_svg(picture)
                    drawn[title].append((picture, svg))
                progress.update()
    write_text(output / "index.html", page(runs, evaluations, drawn))
    for file in earlier:
        file.unlink()


def _one(make: Callable[[Sequence[Run]], Picture], runs: Sequence[Run]) -> list[Picture]:
    return [make(runs)]


def _sections(
    runs: Sequence[Run], evaluations: Sequence[EvaluationResult]
) -> dict[str, list[Callable[[], Iterable[Picture]]]]:
    """Title of a section to what draws its pictures."""
    trained = [run for run in runs if not run.is_fine_tuning]
    tuned = [run for run in runs if run.is_fine_tuning]
    sections: dict[str, list[Callable[[], Iterable[Picture]]]] = {}
    if tuned:
        sections["Fine-tuning"] = [lambda: [curves.fine_tuning(tuned)]]
    by_iteration: tuple[Callable, ...] = (curves.rewards, curves.losses, curves.costs)
    sections["Training"] = [partial(_one, make, trained) for make in by_iteration]
    sections["Comparison"] = [lambda: [accuracy_against_cost(evaluations)]]
    on_operators: tuple[Callable, ...] = (shares_by_iteration, shares_by_step, curves.entropy)
    sections["Operators"] = [partial(_one, make, trained) for make in on_operators]
    sections["Critic"] = [lambda: [critic_against_return(trained)]]
    sections["Alignment"] = [
        lambda: relation_maps(trained),
        lambda: [feature_projection(trained)],
    ]
    return sections


if __name__ == "__main__":
    sys.exit(run_command(main))
