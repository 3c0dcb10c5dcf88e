"""The report's colours, in a light and a dark version, and how matplotlib is set up for them.

Pictures are drawn in the light colours. In the page they are inline SVG whose colours are replaced
by CSS variables, so that one picture serves both.
"""

from collections.abc import Sequence
from typing import Any

# Names are CSS variables of the page. Every light colour is used for one name only: an SVG's colour
# must tell which variable it stands for. The six categories tell apart under colour blindness
# (Okabe and Ito, https://jfly.uni-koeln.de/color/), lightened for the dark page.
COLOURS = {
    "surface": ("#fcfcfd", "#16191f"),
    "ink": ("#1c2128", "#e3e6ea"),
    "muted": ("#5c6570", "#9aa4b0"),
    "line": ("#d5d9df", "#343b45"),
    "category-1": ("#0072b2", "#58aee6"),
    "category-2": ("#d55e00", "#f58b45"),
    "category-3": ("#009e73", "#3ecca0"),
    "category-4": ("#b8578f", "#e392c2"),
    "category-5": ("#e69f00", "#f3bd4b"),
    "category-6": ("#6a5acd", "#a79bf2"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
CATEGORIES = tuple(LIGHT[f"category-{number}"] for number in range(1, 7))
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))

STYLE: dict[str, Any] = {
    "figure.facecolor": LIGHT["surface"],
    "axes.facecolor": LIGHT["surface"],
    "savefig.facecolor": LIGHT["surface"],
    "legend.facecolor": LIGHT["surface"],
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.edgecolor": LIGHT["muted"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "grid.color": LIGHT["line"],
    "legend.edgecolor": LIGHT["line"],
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.fontsize": 8.5,
    "legend.framealpha": 0.85,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
    "text.parse_math": False,  # tokens hold dollar signs
    "axes.unicode_minus": False,
    "svg.fonttype": "none",  # text stays text: it can be selected and read aloud
}


def operator_categories(names: Sequence[str]) -> dict[str, str]:
    """Each operator's colour, by its name in `COLOURS`; they repeat after the six there are."""
    return {name: f"category-{place % len(CATEGORIES) + 1}" for place, name in enumerate(names)}


def operator_colours(names: Sequence[str]) -> dict[str, str]:
    """Each operator's light colour."""
    return {name: LIGHT[category] for name, category in operator_categories(names).items()}


def run_style(place: int) -> dict[str, Any]:
    """Colour and dash of the run at `place`; they repeat after 18 runs."""
    dash = DASHES[place // len(CATEGORIES) % len(DASHES)]
    return {"color": CATEGORIES[place % len(CATEGORIES)], "linestyle": dash}


def css_variables(dark: bool) -> str:
    return "".join(f"--{name}:{colours[dark]};" for name, colours in COLOURS.items())
