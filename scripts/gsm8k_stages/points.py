"""What `scripts/sweep_samplers.py` has written, as points of frontiers."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from frontier.budgets import Point


def read_points(path: Path) -> Iterator[tuple[str, Point]]:
    """The sampler's name, and the point, of every line."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        correct = np.array(row["correct_by_problem"], np.float64)
        yield row["sampler"], Point(row["policy"], row["forward_passes"], correct)
