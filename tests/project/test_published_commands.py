"""The commands of docs/models.md for published numbers, read as `evaluate` reads them."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from reoac_jax import evaluate
from reoac_jax.config import load_config
from reoac_jax.evaluation.policies import parse_policy
from reoac_jax.rollout import RolloutSettings

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("qwen3", "llada", "dream")
# Of each command: tokens, blocks, whether what ends the text comes last.
SETTINGS = {
    "A": (256, 1, False),
    "B": (512, 1, True),
    "C": (256, 32, False),
    "D": (256, 16, True),
    "E": (256, 1, False),
    "F": (256, 1, False),
}


def page() -> str:
    return (ROOT / "docs" / "models.md").read_text(encoding="utf-8").replace("\\\n", " ")


def lettered() -> dict[str, str]:
    """Every lettered command of the page, in one line."""
    found = re.findall(r"^([A-Z])\n\n    (python -m reoac_jax.evaluate .*)$", page(), re.MULTILINE)
    return {letter: " ".join(command.split()) for letter, command in found}


def read(command: str):
    """The sampler and the settings that a command runs it with; what does not fit is refused."""
    options, overrides = evaluate.parse(shlex.split(command)[3:])
    config = load_config(ROOT / options.config, overrides)
    rule = parse_policy(options.policy)
    settings = RolloutSettings.from_config(
        config, mask_id=1, pad_id=0, time_conditioned=False, evaluation=True
    )
    rule.check(settings)
    return rule, settings


def test_every_command_has_its_row():
    used = re.findall(r"\| ([A-Z]) \|$", page(), re.MULTILINE)
    assert sorted(used) == sorted(lettered()) == sorted(SETTINGS)


@pytest.mark.parametrize("letter", SETTINGS)
def test_a_command_is_what_the_table_says(letter):
    rule, settings = read(lettered()[letter])
    tokens, blocks, eos_last = SETTINGS[letter]
    assert settings.gen_len == tokens == rule.row_steps(settings)  # a step for each token
    assert rule.blocks(tokens) == blocks
    assert getattr(rule, "eos_last", False) == eos_last
    draw = rule.draw(settings.draw)
    if letter == "F":
        assert (draw.strategy, draw.temperature, draw.top_p) == ("sample", 0.1, 0.9)
        assert draw.drawn_entropy and rule.name == "entropy"
    else:
        assert draw.strategy == "argmax" and rule.name == "low_confidence"


@pytest.mark.parametrize("model", MODELS)
def test_a_configuration_names_the_same_command(model):
    text = runpy.run_path(str(ROOT / "configs" / f"gsm8k_{model}.py"))["__doc__"]
    commands = re.findall(r"python -m reoac_jax.evaluate .*", text.replace("\\\n", " "))
    assert [" ".join(command.split()) for command in commands][0] in lettered().values()


@pytest.mark.parametrize("policy", ["threshold:threshold=0.9", "entropy_bound:gamma=0.1"])
@pytest.mark.parametrize("model", MODELS)
def test_the_adaptive_rules_run_in_blocks_of_32(model, policy):
    assert f"--policy {policy},block_len=32" in page()
    rule, settings = read(
        f"python -m reoac_jax.evaluate --config configs/gsm8k_{model}.py --output x.json "
        f"--policy {policy},block_len=32"
    )
    assert rule.blocks(settings.gen_len) == 8 and rule.row_steps(settings) == 256
