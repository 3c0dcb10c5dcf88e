"""What one architecture is made of stays in its folder (DESIGN.md, section 3)."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "reoac_jax"
PARTS = ("modulat", "inv_freq", "vocab_embed", "adaln", "sigma_map")
LAST_ID = (r"vocab_size\s*-\s*1\b", "last id")
# The public names, and the path that published model cards import.
NAMING = {"backbone/__init__.py", "convert/mdlm_torch.py"}


def outside():
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        if not where.startswith("backbone/mdlm/"):
            yield where, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("word", PARTS + LAST_ID)
def test_no_word_of_mdlm_stands_outside_its_folder(word):
    assert [where for where, text in outside() if re.search(word, text, re.IGNORECASE)] == []


def test_the_words_are_those_of_the_folder():
    """The test above would pass if a word were misspelt."""
    folder = "".join(path.read_text() for path in (PACKAGE / "backbone" / "mdlm").glob("*.py"))
    for word in PARTS:
        assert re.search(word, folder, re.IGNORECASE), word


def test_only_the_public_names_import_an_architecture():
    assert {where for where, text in outside() if "backbone.mdlm" in text} == NAMING


def test_the_generated_positions_are_gathered_once():
    """`Denoiser.generated` alone takes hidden states by position, the shift included."""
    gather = r"take_along_axis\(\s*hidden"
    assert [where for where, text in outside() if re.search(gather, text)] == ["backbone/module.py"]
