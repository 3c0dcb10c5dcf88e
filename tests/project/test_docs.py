"""The pages agree with each other and with the code: links, commands, messages, translation."""

import importlib.util
import re
from pathlib import Path

import pytest

from reoac_jax.tasks.families.gsm8k import Gsm8k
from reoac_jax.tasks.families.math import Math

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / name for name in ("README.md", "README.zh-TW.md", "CONTRIBUTING.md", "CHANGELOG.md")
]
PAGES += sorted((ROOT / "docs").glob("*.md"))
# Commands under the name they had before: the options are the new one's.
OLD_NAMES = {
    "convert/mdlm_to_flax.py": "convert/to_flax.py",
    "convert/flax_to_mdlm.py": "convert/from_flax.py",
}
CODE = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist_and_know_their_options(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"(?:python|bash) [^`\n,]+", text):
        place = re.match(
            r"python -m (reoac_jax[\w.]*)|(?:python|bash) ((?:scripts|convert)/\S+)", line
        )
        if place is None:
            continue
        module, script = place.groups()
        if module:
            spec = importlib.util.find_spec(module)
            assert spec is not None, line
            file = Path(spec.origin)
            if file.name == "__init__.py":
                file = file.with_name("__main__.py")
        else:
            file = ROOT / script
            assert file.is_file(), line
        if script and script.startswith("convert/"):
            file = ROOT / "reoac_jax" / OLD_NAMES.get(script, script)
        if file.suffix == ".py":
            source = file.read_text(encoding="utf-8")
            for option in re.findall(r" (--[a-z-]+)", line):
                assert f'"{option}"' in source or option == "--config", f"{option} in: {line}"


def test_messages_are_those_of_the_program():
    """Every quoted heading of the troubleshooting page occurs in the code, `...` apart."""
    files = [*(ROOT / "reoac_jax").rglob("*.py"), *(ROOT / "scripts").glob("*.sh")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    source = re.sub(r'["\']\s*\n\s*f?["\']', "", source)  # adjacent parts of one text
    source = re.sub(r"\{[^{}\n]*\}", "...", source)
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^### (.*)$", page, re.MULTILINE)))
    assert len(quoted) > 25
    parts = {part.strip(" ;,") for message in quoted for part in message.split("...")}
    missing = sorted(part for part in parts if len(part) > 3 and part not in source)
    assert not missing, "in no message of the program"


def test_the_translation_has_the_same_parts():
    english, chinese = (path.read_text(encoding="utf-8") for path in PAGES[:2])

    def parts(text):
        code = [re.sub(r"\s+# .*", "", block) for block in CODE.findall(text)]
        prose = CODE.sub("", text)
        headings = [len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE)]
        tables = [
            (line.count("|"), re.findall(r"\d[\d.]*", line))
            for line in prose.splitlines()
            if line.startswith("|")
        ]
        return {"code": code, "headings": headings, "tables": tables}

    ours, theirs = parts(english), parts(chinese)
    for kind in ours:
        assert ours[kind] == theirs[kind], f"README.md and README.zh-TW.md differ in their {kind}"
    assert "README.zh-TW.md" in english and "README.md" in chinese


def test_the_design_names_the_graders_versions():
    """Who changes a grader and its version changes the page that says what it does."""
    design = (ROOT / "docs" / "DESIGN.md").read_text(encoding="utf-8")
    for grader in (Gsm8k, Math):
        assert f"`{grader.grader_version.partition('+')[0]}`" in design
