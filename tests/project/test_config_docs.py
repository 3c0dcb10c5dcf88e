"""docs/configuration.md is what scripts/make_config_docs.py writes, and leaves nothing out."""

import re
import runpy
from pathlib import Path

import pytest

from reoac_jax.config import fixed_options
from reoac_jax.policy.operators import OPERATOR_TYPES
from reoac_jax.policy.options import FURTHER
from reoac_jax.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "configuration.md"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(ROOT / "scripts" / "make_config_docs.py"))


def test_the_page_is_up_to_date(script):
    assert PAGE.read_text(encoding="utf-8") == script["document"](), (
        "run python scripts/make_config_docs.py and commit docs/configuration.md"
    )


def test_every_key_has_one_row_with_range_default_and_effect():
    rows = [line[2:-2].split(" | ") for line in PAGE.read_text().splitlines() if line[:3] == "| `"]
    keys = sorted(cells[0].strip("`") for cells in rows)
    tasks = [f"task.{key}" for task in TASKS.values() for key in task.options]
    operators = [
        f"operators.{name}.{key}"
        for name, kind in OPERATOR_TYPES.items()
        for key in kind.parameters()
    ]
    heads = [key for options in FURTHER.values() for key in options]
    assert keys == sorted([*fixed_options(), *tasks, *operators, *heads])
    cells = {row[0].strip("`"): row for row in rows}
    steps = cells["rollout.max_steps"]
    assert steps[1:3] == ["an integer from 1 to 1024", "`32`"]
    assert "`7` arithmetic, tiny" in steps[3] and re.search(r"`64`[^;]* math", steps[3])
    for row in rows:
        assert re.search(r"\w{2}", row[-1]), f"{row[0]} has no effect"


def test_every_section_has_its_place(script):
    """A new one would come last; say where it is read."""
    sections = {key.split(".")[0] if "." in key else "" for key in fixed_options()}
    assert sections == set(script["ORDER"])
