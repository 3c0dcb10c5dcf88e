"""A picture of the report: a figure, what to see in it, and its numbers."""

import contextlib
import csv
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reoac_jax.report.theme import LIGHT, STYLE
from reoac_jax.system.files import replacing_file, write_text

_PIXELS_PER_INCH = 160


@dataclasses.dataclass(frozen=True)
class Table:
    """The numbers of a picture, as its CSV file holds them."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """name: of its files. caption: what it shows. figure: None where there is nothing to show; the
    caption says why then. scrolls: it is never narrowed to the window.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None
    table: Table
    scrolls: bool = False

    @classmethod
    def absent(cls, name: str, title: str, why: str, columns: Sequence[str]) -> "Picture":
        """A picture that cannot be drawn yet; its table has its columns and no row."""
        return cls(name, title, why, None, Table(columns, ()))


def new_figure(
    rows: int, columns: int, width: float = 3.4, height: float = 2.7
) -> tuple[Figure, list[Axes]]:
    """A figure in the report's style, `width` x `height` inches an axes, and its axes in a list."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def style() -> Any:
    """The context in which pictures are made and saved."""
    return matplotlib.rc_context(STYLE)


def save_picture(picture: Picture, pictures: Path, series: Path) -> None:
    """Writes `<name>.csv` to `series` and, if there is a figure, `<name>.png` to `pictures`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(picture.table.columns)
    writer.writerows(picture.table.rows)
    write_text(series / f"{picture.name}.csv", text.getvalue())
    if picture.figure is None:
        return
    with _quiet_glyphs(), replacing_file(pictures / f"{picture.name}.png") as temporary:
        picture.figure.savefig(temporary, format="png", dpi=_PIXELS_PER_INCH)


def inline_svg(picture: Picture) -> str:
    """The figure as an SVG element that takes its colours from the page's CSS variables."""
    assert picture.figure is not None, "there is something to show"
    buffer = io.StringIO()
    with _quiet_glyphs(), matplotlib.rc_context({"svg.hashsalt": picture.name}):
        picture.figure.savefig(
            buffer, format="svg", dpi=_PIXELS_PER_INCH, metadata={"Date": None}, transparent=True
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # The page's other pictures have the same ids, and its own rules for all elements.
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{picture.name}-", svg)
    for name, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{name})")
    # matplotlib's points at the page's usual size; the style sheet narrows it to the window.
    stated = re.search(r'width="([\d.]+)pt"', svg)
    assert stated is not None, "matplotlib states an SVG's width in points"
    width = float(stated.group(1)) * 96 / 72
    return re.sub(
        r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt" width="[\d.]+pt"',
        f'role="img" aria-labelledby="title-{picture.name}" style="--natural:{width:.0f}px"',
        svg,
        count=1,
    )


@contextlib.contextmanager
def _quiet_glyphs() -> Iterator[None]:
    """Tokens may be in any script; one that the PNG's font lacks becomes a box there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
