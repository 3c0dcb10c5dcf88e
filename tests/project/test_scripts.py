"""The shell scripts and the console script: what they forward, and what they refuse.

They run in a copy of the project's outline whose `.venv/bin/python` and `pip` only write down how
they were called, so nothing is installed here.
"""

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reoac_jax import __main__ as console

ROOT = Path(__file__).resolve().parents[2]
RECORD = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project with spaces"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def bash(*arguments, cwd, **environment):
    return subprocess.run(
        ["bash", *map(str, arguments)], cwd=cwd, env=os.environ | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / "scripts").glob("*.s*")), ROOT / ".ci" / "run"], ids=lambda p: p.name
)
def test_syntax(path):
    assert bash("-n", path, cwd=ROOT).returncode == 0
    assert "set -euo pipefail" in path.read_text()


@pytest.mark.parametrize(
    ("script", "given", "forwarded"),
    [
        (
            "train_reoac.sh",
            ["c d.py", "lora", "--config.lora.targets=(a, b)"],
            ["reoac_jax.train", "--config", "c d.py", "--config.backbone.finetune_mode=lora",
             "--config.lora.targets=(a, b)"],
        ),
        (
            "train_reoac.sh",
            ["--resume", "runs/a b", "--config.train.iterations=9"],
            ["reoac_jax.train", "--resume", "runs/a b", "--config.train.iterations=9"],
        ),
        (
            "eval_gsm8k.sh",
            ["c.py", "runs/a b/checkpoints", "--limit", "4"],
            ["reoac_jax.evaluate", "--config", "c.py", "--checkpoint", "runs/a b/checkpoints",
             "--output", "runs/eval_gsm8k.json", "--limit", "4"],
        ),
        (
            "eval_math.sh",
            ["c.py", "--limit", "4"],
            ["reoac_jax.evaluate", "--config", "c.py", "--output", "runs/eval_math.json",
             "--limit", "4"],
        ),
    ],
)  # fmt: skip
def test_forwarding(project, tmp_path, script, given, forwarded):
    executable(project / ".venv/bin/python", RECORD)
    result = bash(project / "scripts" / script, *given, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == ["-m", *forwarded]


@pytest.mark.parametrize(
    ("script", "given"),
    [
        ("train_reoac.sh", []),
        ("train_reoac.sh", ["c.py"]),
        ("train_reoac.sh", ["c.py", "lorra"]),
        ("train_reoac.sh", ["--resume"]),
        ("eval_gsm8k.sh", []),
        ("eval_gsm8k.sh", ["--limit", "4"]),
        ("eval_math.sh", []),
        ("eval_math.sh", ["--limit", "4"]),
        ("setup.sh", ["gpu"]),
        ("setup.sh", ["cuda", "more"]),
    ],
)
def test_misuse(project, script, given):
    executable(project / ".venv/bin/python", RECORD)
    result = bash(project / "scripts" / script, *given, cwd=project)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("usage: ") and result.stderr.count("\n") == 1


def test_setup_installs_once(project):
    """Again only after a change of what is wanted, or an installation that failed."""
    log = project / "pip.log"
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").symlink_to(sys.executable)
    pip = project / ".venv/bin/pip"
    executable(pip, f'#!/usr/bin/env bash\necho "$@" >>"{log}"\n')

    def installed(*given):
        log.unlink(missing_ok=True)
        result = bash(project / "scripts/setup.sh", *given, cwd="/")
        assert result.returncode == 0, result.stderr
        return log.read_text() if log.exists() else ""

    assert "-c constraints.txt -e .[convert,dev]" in installed()
    assert installed() == ""
    assert "-e .[convert,dev,cuda12]" in installed("cuda")
    assert "-e .[convert,dev,cuda13]" in installed("cuda13")
    assert installed("cuda") == installed("cuda12") == installed("cuda13") == installed() == ""
    with (project / "constraints.txt").open("a") as file:
        file.write("another==1.0\n")
    executable(pip, "#!/usr/bin/env bash\nexit 1\n")
    assert bash(project / "scripts/setup.sh", cwd="/").returncode == 1
    executable(pip, f'#!/usr/bin/env bash\necho "$@" >>"{log}"\n')
    assert "-e .[convert,dev]" in installed()
    assert installed() == ""


def test_setup_takes_other_versions(project):
    """As CI's newest pair does."""
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").symlink_to(sys.executable)
    executable(project / ".venv/bin/pip", '#!/usr/bin/env bash\necho "pip $@"\n')
    (project / "newest.txt").write_text("jax==0.11.2\n")
    result = bash(project / "scripts/setup.sh", cwd="/", CONSTRAINTS="newest.txt")
    assert "-c newest.txt -e .[convert,dev]" in result.stdout
    result = bash(project / "scripts/setup.sh", cwd="/", CONSTRAINTS="absent.txt")
    assert result.returncode == 2 and result.stderr.startswith("error: CONSTRAINTS is absent.txt")


def test_setup_refuses_an_old_or_absent_python(project, tmp_path):
    old = tmp_path / "python3.9"
    executable(old, '#!/usr/bin/env bash\n[[ "$1" == --version ]] && echo "Python 3.9.1"\nexit 1\n')
    for python, message in ((old, "Python 3.9.1; expected Python 3.11"), ("/none", "'/none'")):
        result = bash(project / "scripts/setup.sh", cwd=project, PYTHON=str(python))
        assert result.returncode == 2 and not (project / ".venv").exists()
        assert message in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.process
@pytest.mark.parametrize("argv", [[], ["trian"], ["--help"]])
def test_console_script_lists_its_commands(argv):
    result = subprocess.run(
        [sys.executable, "-m", "reoac_jax", *argv],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "train, evaluate" in result.stderr


def test_console_script_forwards(monkeypatch):
    calls = []
    monkeypatch.setattr(
        runpy, "run_module", lambda name, **kwargs: calls.append((name, sys.argv[1:], kwargs))
    )
    monkeypatch.setattr(sys, "argv", ["reoac", "train", "--config", "a.py"])
    assert console.main() == 0
    expected = {"run_name": "__main__", "alter_sys": True}
    assert calls == [("reoac_jax.train", ["--config", "a.py"], expected)]


def _names(path: Path) -> set[str]:
    """What a module defines or imports at its top level."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(name.asname or name.name).partition(".")[0] for name in node.names}
        else:
            found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    return found


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").rglob("*.py")), ids=lambda p: p.stem)
def test_what_scripts_import_of_each_other_is_there(script):
    """No type checker reads them, and a long study is not run to find out."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for folder in (ROOT / "scripts", ROOT):
                module = (folder / node.module.replace(".", "/")).with_suffix(".py")
                if module.is_file():
                    assert {name.name for name in node.names} <= _names(module), node.module
