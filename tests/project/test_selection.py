"""What `--fast` leaves out, and that it still looks into every room."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, TESTS = ROOT / "reoac_jax", ROOT / "tests"


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Every test with its marks, and the tests that `--fast` selects."""
    file = tmp_path_factory.mktemp("selection") / "selection.json"
    command = [
        sys.executable, "-m", "pytest", "--fast", "--collect-only", "-q", "-p", "support.selection",
        "-p", "no:cacheprovider",
    ]  # fmt: skip
    environment = os.environ | {"SELECTION": str(file), "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    found = json.loads(file.read_text())
    return found["all"], set(found["selected"])


def rooms(tests: Iterable[str]) -> set[str]:
    """The folders below `tests/` that hold these tests."""
    return {test.split("/")[1] for test in tests}


@pytest.mark.slow
@pytest.mark.process
def test_a_fast_run_looks_into_every_room(collected):
    found, selected = collected
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders <= rooms(found), "a room without tests"
    assert rooms(selected) == rooms(found)


@pytest.mark.slow
@pytest.mark.process
def test_a_fast_run_holds_what_is_compared_with_others_and_nothing_slow(collected):
    found, selected = collected
    parity = {test for test, marks in found.items() if "parity" in marks}
    golden = {test for test in found if "/test_golden.py::" in test}
    assert golden and golden <= parity <= selected
    assert {"backbone", "policy", "learning", "finetuning", "convert"} <= rooms(parity)
    for test in selected - parity:
        assert not {"slow", "process", "browser"} & set(found[test]), test
