"""Picture of how the generated tokens of one episode relate to the tokens of its prompt."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb

from reoac_jax.report.picture import Picture, Table, new_figure
from reoac_jax.report.runs import Run
from reoac_jax.report.theme import CATEGORIES
from reoac_jax.system.json_files import read_json_object

_MOST = 100  # tokens shown on an axis
_CELL = 0.19  # inches
# From nothing to blue, so that it fits a light and a dark page.
_COLOURS = LinearSegmentedColormap.from_list(
    "relation", [(*to_rgb(CATEGORIES[0]), 0.0), (*to_rgb(CATEGORIES[0]), 1.0)]
)


def relation_map(run: Run, number: int) -> Picture:
    """Of the run's last solved sampled episode, or of its last one. number: from 1, of the run."""
    name = "relation_map" if number == 1 else f"relation_map_{number}"
    title = f"Relation map of an episode of {run.label}"
    columns = ("prompt_position", "prompt_token", "position", "token", "relation")
    if not run.episodes:
        return Picture.absent(name, title, "There is no sampled episode yet.", columns)
    episode = next((e for e in reversed(run.episodes) if e.correct), run.episodes[-1])
    record = read_json_object(episode.file, "a sampled episode")
    prompt, tokens = record["prompt_tokens"], record["tokens"]
    relation = np.array(record["relation"], float)
    rows = [
        (i, prompt_token, j, token, relation[i, j])
        for i, prompt_token in enumerate(prompt)
        for j, token in enumerate(tokens)
    ]
    height, width = min(len(prompt), _MOST), min(_without_padding(tokens), _MOST)
    figure, (axes,) = new_figure(1, 1, max(width * _CELL, 3) + 2, max(height * _CELL, 1) + 1.2)
    image = axes.imshow(
        relation[:height, :width], cmap=_COLOURS, vmin=0, aspect="auto", interpolation="nearest"
    )
    axes.set_xticks(range(width), [_shown(token) for token in tokens[:width]], rotation=90)
    axes.set_yticks(range(height), [_shown(token) for token in prompt[:height]])
    axes.tick_params(labelsize=7.5, length=0)
    axes.set_xlabel("generated tokens")
    axes.set_ylabel("prompt tokens")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="relation", shrink=min(1.0, 1.6 / (height * _CELL)))
    cut = len(prompt) > height or len(tokens) > width
    caption = (
        f"Problem {episode.problem_id}, iteration {episode.iteration}, "
        f"{'solved' if episode.correct else 'not solved'}. Each column is a generated token's "
        "softmax of the relation energy over the prompt. "
        + (
            "Padding and all after 100 tokens are left out here, not in the CSV file. "
            if cut
            else ""
        )
        + "In the trace viewer, pointing at a token tints the prompt in the same way."
    )
    return Picture(name, title, caption, figure, Table(columns, rows), scrolls=True)


def _without_padding(tokens: Sequence[str]) -> int:
    """How many tokens there are up to the first of those that only repeat to the end."""
    count = len(tokens)
    while count > 1 and tokens[count - 2] == tokens[-1]:
        count -= 1
    return count


def _shown(token: str) -> str:
    """The token on one short line, with its white space visible."""
    visible = token.replace("\n", "⏎").replace("\t", "⇥").strip(" ") or ("␣" if token else "")
    return visible if len(visible) <= 14 else visible[:13] + "…"


def relation_maps(runs: Sequence[Run]) -> list[Picture]:
    return [relation_map(run, number) for number, run in enumerate(runs, start=1)]
