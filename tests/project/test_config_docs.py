"""docs/configuration.md is what scripts/make_config_docs.py writes, and leaves nothing out."""

import re
import runpy
from pathlib import Path

import pytest

from reoac_jax.config.schema import SCHEMA
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


def test_every_key_has_one_row_with_its_range_and_values(configs):
    rows = [line[2:-2].split(" | ") for line in PAGE.read_text().splitlines() if line[:3] == "| `"]
    keys = sorted(cells[0].strip("`") for cells in rows)
    tasks = [f"task.{key}" for task in TASKS.values() for key in task.options]
    assert keys == sorted([*SCHEMA, *tasks])
    cells = {row[0].strip("`"): row for row in rows}
    assert cells["rollout.max_steps"][1:5] == ["an integer from 1 to 1024", "`7`", "`32`", "`64`"]
    for row in rows:
        assert re.search(r"\w{2}", row[-1]), f"{row[0]} has no effect"


def test_comments_belong_to_their_keys(script):
    read = script["read_comments"](
        "# of the file\n"
        "def get_config():\n"
        "    # of the section,\n"
        "    first = config.first = ConfigDict()  # in two parts\n"
        "    first.a = 1  # of a\n"
        "    # above b\n"
        "    first.b = ()\n"
        "    # lost: nothing follows\n"
        "\n"
        "    config.c = (1, 2)  # of c\n"
        "    # of both operators\n"
        "    operators.O_ONE = ConfigDict(dict(cost=1.0))\n"
    )
    assert read.sections == {
        "first": "of the section, in two parts", "operators": "of both operators",
    }  # fmt: skip
    assert read.keys == {"first.a": "of a", "first.b": "above b", "c": "of c"}
