"""What `scripts/gpu_check.sh` does, on the CPU at small size: parts, the file, what it refuses."""

import json
import runpy
from pathlib import Path

import pytest

from reoac_jax.system.errors import run_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def check(monkeypatch, capsys):
    """Runs the command; its exit code, what it printed, and its names to change."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    names = runpy.run_path(str(ROOT / "scripts" / "gpu_check.py"))

    def run(*argv):
        code = run_command(names["main"], ["--size", "tiny", "--repeats", "1", *map(str, argv)])
        return code, capsys.readouterr()

    run.parts = names["PARTS"]
    return run


@pytest.mark.slow
def test_the_parts_run(check, tmp_path):
    """But "pytorch", which compiles C++, and "lora", whose program test_bench.py runs."""
    output = tmp_path / "check.json"
    parts = [name for name in check.parts if name not in ("lora", "pytorch")]
    code, printed = check("--output", output, "--rows", 4, "--parts", ",".join(parts))
    assert code == 0, printed.out
    result = json.loads(output.read_text())
    assert list(result["parts"]) == parts and result["rows"] == 4
    assert result["machine"]["versions"]["jax"] and "driver" in result["machine"]
    exact, rounded = result["parts"]["parity"]["differences"]
    assert exact["largest_log_prob"] < 1e-4 < rounded["largest_log_prob"] < 0.1
    assert exact["gradient"] < rounded["gradient"] < 1e-3
    for name in set(parts) - {"parity", "ceilings"}:
        ceiling, *programs = result["parts"][name]["programs"]
        assert ceiling["name"] == "matrix product bfloat16" and programs
        assert all(program["ceiling_share"] > 0 for program in programs)
        assert all(program["name"] in printed.out for program in programs)
    # One token a pass: 4 rows of 20 tokens.
    *_, sampler = result["parts"]["threshold"]["programs"]
    assert sampler["rows_per_second"] * sampler["seconds"] == pytest.approx(4 * 20)
    assert printed.out.count("(target ") == 2


def test_parts_that_are_there_stay(check, tmp_path, monkeypatch):
    """A part that fails takes nothing with it, and runs again when the command does."""
    output, ran = tmp_path / "check.json", []

    def part(name, broken=()):
        def run(size, repeats):
            ran.append(name)
            if name in broken:
                raise MemoryError("no room\nfor it")
            return {"programs": []}

        return run

    for name in list(check.parts):
        monkeypatch.setitem(check.parts, name, part(name, broken=("lora",)))
    code, printed = check("--output", output)
    assert code == 1 and ran == list(check.parts)
    assert "lora: failed: MemoryError: no room\n" in printed.out
    assert set(json.loads(output.read_text())["parts"]) == set(check.parts) - {"lora"}

    ran.clear()
    monkeypatch.setitem(check.parts, "lora", part("lora"))
    assert check("--output", output)[0] == 0 and ran == ["lora"]
    ran.clear()
    assert check("--output", output, "--parts", "full")[0] == 0 and ran == ["full"]
    assert set(json.loads(output.read_text())["parts"]) == set(check.parts)

    # Another size's file is not gone on with; nor is a part begun when the time is over.
    code, printed = check("--output", output, "--rows", 2)
    assert code == 2 and "has rows 8, this is 2" in printed.err
    ran.clear()
    code, printed = check("--seconds", 1e-9)
    assert code == 0 and ran == [] and "left out" in printed.out


def test_numbers_that_differ_too_much_fail(check, monkeypatch):
    wrong = {"within": False, "differences": []}
    monkeypatch.setitem(check.parts, "parity", lambda size, repeats: wrong)
    code, printed = check("--parts", "parity")
    assert code == 1 and printed.out.endswith("not as they should be: parity\n")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--parts", "speed"], "--parts is 'speed'"),
        (["--seconds", "0"], "--seconds is 0"),
        (["--rows", "0"], "--rows is 0"),
        (["--size", "owt"], "--size owt is for a GPU"),
    ],
)
def test_what_it_refuses(check, argv, named):
    code, printed = check(*argv)
    assert code == 2 and printed.out == ""
    assert named in printed.err and printed.err.count("\n") == 1


def test_a_bare_machine_is_told_what_it_lacks(monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    absent = ("ml_collections", "safetensors")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in absent else found(name, *a)
    )
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(ROOT / "scripts" / "gpu_check.py"))
    assert capsys.readouterr().err.startswith(
        "error: this Python has no ml_collections, safetensors;"
    )
