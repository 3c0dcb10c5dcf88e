"""Configurations: the bundled files, every kind of mistake, overrides, JSON and hash."""

import argparse
import ast
import json
import re
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from reoac_jax.config import (
    SCHEMA,
    Option,
    config_hash,
    load_config,
    parse_command_line,
    to_json,
    validate,
)
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import write_json
from reoac_jax.tasks import task_options

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("gsm8k", "math", "tiny")

TOY_TASKS = {
    "toy": {"size": Option("int", "size", low=1, high=9)},
    "big": {"size": Option("int", "size", low=1, high=99)},
}


def toy_options(name):
    if name not in TOY_TASKS:
        raise InputError(f"task {name!r} is unknown; expected one of {', '.join(TOY_TASKS)}")
    return TOY_TASKS[name]


def flat(config, prefix=""):
    values = {}
    for key, value in config.items():
        is_section = isinstance(value, dict)
        values |= flat(value, f"{prefix}{key}.") if is_section else {f"{prefix}{key}": value}
    return values


@pytest.fixture
def tiny(configs):
    """The tiny configuration as a nested dict that a test may break."""
    return runpy.run_path(str(configs / "tiny.py"))["get_config"]().to_dict()


@pytest.fixture
def write_config(tmp_path):
    """Writes a Python configuration file and returns its path."""

    def write(text, name="broken.py"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refused(*arguments, **options):
    """The message of the InputError that load_config must raise; one line."""
    with pytest.raises(InputError) as caught:
        load_config(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", NAMES)
def test_bundled_configs_are_complete(configs, name):
    values = flat(to_json(load_config(configs / f"{name}.py")))
    assert {key for key in values if not key.startswith("task.")} == set(SCHEMA)
    assert values["task.name"] == {"tiny": "countdown"}.get(name, name)


@pytest.mark.parametrize("name", [*NAMES, "arithmetic", "gsm8k_midsize"])
def test_bundled_configs_fit_their_task(configs, name):
    config = load_config(configs / f"{name}.py", task_options=task_options)
    assert set(config.task) == {"name", *task_options(config.task.name)}


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_is_named_in_the_comment(configs, name):
    """A comment that lists legal values with | lists exactly those of the schema."""
    text = (configs / f"{name}.py").read_text()
    found = 0
    for key, comment in re.findall(r"^    (\w+\.\w+) = .*?  # (.*)$", text, re.MULTILINE):
        choices = SCHEMA[key].choices if key in SCHEMA else None
        if choices is None or "|" not in comment:
            continue
        found += 1
        listed = re.sub(r"\([^)]*\)", "", comment).split(":")[0].split(";")[0].split("|")
        assert {item.strip() for item in listed} == set(choices), key
    assert found >= 10


def test_gsm8k_defaults_are_the_originals(configs):
    config = load_config(configs / "gsm8k.py")
    assert (config.rollout.max_steps, config.rollout.gen_len) == (32, 64)
    assert (config.rollout.branch_steps, config.rollout.branch_k) == ((4, 8, 12), 3)
    assert (config.lora.rank, config.lora.alpha, config.reward.cost_lambda) == (8, 16.0, 0.01)
    rates = config.optimizer
    assert (rates.actor_rate, rates.critic_rate, rates.backbone_rate) == (1e-4, 1e-4, 5e-6)
    train = config.train
    assert (train.critic_steps, train.actor_steps, train.backbone_steps) == (2, 1, 1)
    assert (train.buffer_size, train.iterations, train.episodes_per_iter) == (800, 50, 32)


@pytest.mark.parametrize("key", sorted(SCHEMA))
def test_every_key_is_required_and_typed(tiny, key):
    *sections, last = key.split(".")
    section = tiny
    for name in sections:
        section = section[name]
    kept = section.pop(last)
    with pytest.raises(InputError, match=f"key '{re.escape(key)}' is missing"):
        validate(tiny)
    wrong = 1.5 if isinstance(kept, bool) else True
    for value in (wrong, None, {}, float("nan"), [None], ("", "")):
        section[last] = value
        with pytest.raises(InputError, match=f"{re.escape(key)}.*expected"):
            validate(tiny)
    section[last] = kept
    validate(tiny)


@pytest.mark.parametrize("key", [key for key in sorted(SCHEMA) if SCHEMA[key].low is not None])
def test_ranges_are_inclusive(key):
    option = SCHEMA[key]
    wrap = (lambda value: (value,)) if option.kind == "ints" else (lambda value: value)
    step = 1 if option.kind in ("int", "ints") else 1e-9
    assert option.accept(wrap(option.low)) == wrap(option.low)
    with pytest.raises(ValueError):
        option.accept(wrap(option.low - step))
    if option.high is not None:
        assert option.accept(wrap(option.high)) == wrap(option.high)
        with pytest.raises(ValueError):
            option.accept(wrap(option.high + max(step, option.high * 1e-9)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.max_step=8", "'rollout.max_step' is unknown (did you mean 'rollout.max_steps'?)"),
        ("zzz=8", "key 'zzz' is unknown"),
        ("rollout=8", "'rollout' is a section"),
        ("rollout.max_steps.x=8", "'rollout.max_steps.x' is unknown"),
        ("rollout.max_steps=0", "expected an integer from 1 to 1024"),
        ("rollout.max_steps=8.0", "expected an integer from 1 to 1024"),
        ("rollout.max_steps=", "expected an integer from 1 to 1024"),
        ("rollout.max_steps=" + "9" * 5000, "expected an integer from 1 to 1024"),
        ("rollout.branch_k=5", "expected an integer from 0 to 4"),
        ("rollout.fallback_operator=O_BRANCH", "expected one of O_NUM, O_OP, O_SCOPE, O_FAST"),
        ("rollout.update_rule=Denoise", "expected one of denoise, overwrite"),
        ("features.use_hidden=1", "expected True or False"),
        ("reward.cost_lambda=inf", "expected a number from 0.0 to 100.0"),
        ("lora.alpha=abc", "expected a number"),
        ("exp_name=", "expected a text"),
        ("rollout.branch_steps=1,two", "expected a tuple of integers"),
        ("rollout.branch_steps=(1.5,)", "expected a tuple of integers"),
        ("rollout.branch_steps=" + "(" * 500, "expected a tuple of integers"),
        ("rollout.branch_steps=__import__('os').getpid()", "expected a tuple of integers"),
        ("lora.targets=(attn_qkv", "expected a tuple of texts"),
        ("rollout.max_steps", "expected --config.KEY=VALUE"),
        ("=3", "expected --config.KEY=VALUE"),
    ],
)
def test_overrides_refused(configs, override, message):
    assert message in refused(configs / "tiny.py", [f"--config.{override}"])


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["rollout.branch_steps=(6,7)"], "rollout.branch_steps"),
        (["rollout.branch_steps=3,3"], "rollout.branch_steps"),
        (["train.episodes_per_prompt=7"], "train.episodes_per_iter"),
        (["train.episodes_per_prompt=1"], "train.episodes_per_prompt"),
        (["rollout.selection_mode=argmax"], "rollout.selection_mode"),
        (["train.buffer_size=63"], "train.buffer_size"),
        (["rollout.sigma_min=2", "rollout.sigma_max=1"], "rollout.sigma_min"),
        (["backbone.attention=cudnn", "backbone.compute_dtype=float32"], "backbone.attention"),
        (["exp_name=../up"], "exp_name"),
        (["exp_name=.."], "exp_name"),
    ],
)
def test_keys_that_do_not_fit_together(configs, overrides, key):
    path = configs / "tiny.py"
    message = refused(path, [f"--config.{override}" for override in overrides])
    assert message.startswith(f"{path}: {key} is ") and "expected" in message


@pytest.mark.parametrize(
    "overrides",
    [
        ["rollout.branch_steps=(0,6)"],
        ["objective.actor=soft_q", "train.episodes_per_prompt=1"],
        ["objective.actor=soft_q", "rollout.selection_mode=argmax"],
        ["train.episodes_per_prompt=2"],
        ["train.buffer_size=1152"],
        ["rollout.sigma_min=1", "rollout.sigma_max=1"],
        ["backbone.attention=cudnn", "backbone.compute_dtype=auto"],
    ],
)
def test_keys_at_the_edge_of_fitting(configs, overrides):
    load_config(configs / "tiny.py", [f"--config.{override}" for override in overrides])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lora.targets=()", ()),
        ("lora.targets=", ()),
        ("lora.targets=attn_qkv, mlp_in", ("attn_qkv", "mlp_in")),
        ("lora.targets=('attn_qkv',)", ("attn_qkv",)),
        ("lora.targets=(attn_qkv|mlp_in)", ("(attn_qkv|mlp_in)",)),
        ("rollout.branch_steps=1,2", (1, 2)),
        ("rollout.branch_steps=(1,2)", (1, 2)),
        ("rollout.branch_steps=[1, 2]", (1, 2)),
        ("rollout.branch_steps=(3)", (3,)),
        ("heads.actor_hidden=()", ()),
        ("features.use_hidden=false", False),
        ("features.use_hidden=True", True),
        ("lora.alpha=4", 4.0),
        ("exp_name=a=b", "a=b"),
    ],
)
def test_override_values(configs, text, value):
    key, _ = text.split("=", 1)
    config = load_config(configs / "tiny.py", [f"--config.{text}"])
    for name in key.split("."):
        config = config[name]
    assert config == value and type(config) is type(value)


def test_later_override_wins(configs):
    overrides = [f"--config.rollout.max_steps={steps}" for steps in (5, 6)]
    assert load_config(configs / "tiny.py", overrides).rollout.max_steps == 6


@given(st.text(max_size=40), st.sampled_from(sorted(SCHEMA)))
def test_any_override_text_is_taken_or_refused(text, key):
    try:
        load_config(ROOT / "configs" / "tiny.py", [f"--config.{key}={text}"])
    except InputError as error:
        assert key in str(error)


def test_the_result_is_frozen(configs):
    config = load_config(configs / "tiny.py")
    with pytest.raises(AttributeError):
        config.rollout.max_steps = 3
    assert hash(config) == hash(load_config(configs / "tiny.py"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", "line 1: syntax error"),
        ("x = 1\n", "has no get_config()"),
        ("def get_config():\n    return 3\n", "gives int; expected ConfigDict"),
        ("def get_config():\n    a = 1\n    return a / 0\n", "line 3: ZeroDivisionError"),
        ("import no_such_module_at_all\n", "line 1: ModuleNotFoundError"),
        ("raise SystemExit('a\\nb')\n", "SystemExit"),
        (b"x = '\xff\xfe'\n", "syntax error"),
        (b"\0", "config file"),
        ("", "has no get_config()"),
        ("from ml_collections import ConfigDict as get_config\n", "key 'task.name' is missing"),
        (
            "from ml_collections import config_dict\ndef get_config():\n"
            "    config = config_dict.ConfigDict()\n"
            "    config.seed = config_dict.required_placeholder(int)\n    return config\n",
            "RequiredValueError",
        ),
    ],
)
def test_broken_files(write_config, text, message):
    path = write_config(text)
    assert run_command(lambda argv: load_config(path) and 0, []) == 2
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_files_that_are_none(write_config, tmp_path, configs):
    assert "does not exist" in refused(tmp_path / "absent.py")
    assert "expected a .py or .json" in refused(tmp_path)
    assert "expected a .py or .json" in refused(write_config("", "config.yaml"))
    assert "no readable JSON" in refused(write_config("{", "a.json"))
    assert "no readable JSON" in refused(write_config(b"\xff", "b.json"))
    assert "no JSON object" in refused(write_config("[1]", "c.json"))


def test_sections_refused(tiny):
    for broken, message in (
        (tiny | {"rollout": 3}, "'rollout' is no section"),
        (tiny | {"rollout": {}}, "key 'rollout.max_steps' is missing"),
        (tiny | {"rolout": {}}, "key 'rolout' is unknown"),
        (tiny | {"task": {"name": 3}}, "task.name is 3"),
        (tiny | {"task": {"name": "toy", "size": None}}, "task.size is None"),
    ):
        with pytest.raises(InputError, match=message):
            validate(broken)


def test_integers_become_floats_and_lists_tuples(tiny):
    tiny["lora"]["alpha"] = 4
    tiny["rollout"]["branch_steps"] = [1, 2]
    config = validate(ConfigDict(tiny))
    assert type(config.lora.alpha) is float
    assert config.rollout.branch_steps == (1, 2)


def test_task_options(tiny, tmp_path):
    tiny["task"] = {"name": "toy", "size": 9}
    write_json(tmp_path / "config.json", to_json(tiny))
    path = tmp_path / "config.json"
    assert load_config(path, task_options=toy_options).task.size == 9
    message = refused(path, ["--config.task.size=10"], task_options=toy_options)
    assert "expected an integer from 1 to 9" in message
    overrides = ["--config.task.size=10", "--config.task.name=big"]
    assert load_config(path, overrides, toy_options).task.size == 10
    message = refused(path, ["--config.task.name=toi"], task_options=toy_options)
    assert "task 'toi' is unknown" in message
    tiny["task"] = {"name": "toy", "sise": 9}
    with pytest.raises(InputError, match="'task.sise' is unknown .did you mean 'task.size'"):
        validate(tiny, toy_options)


@pytest.mark.parametrize("name", NAMES)
def test_json_there_and_back(configs, tmp_path, name):
    config = load_config(configs / f"{name}.py")
    write_json(tmp_path / "config.json", to_json(config))
    again = load_config(tmp_path / "config.json")
    assert again == config
    assert config_hash(again) == config_hash(config)
    assert json.loads((tmp_path / "config.json").read_text()) == to_json(config)


def test_hash_ignores_places_only(configs):
    path = configs / "tiny.py"
    plain = config_hash(load_config(path))
    assert re.fullmatch("[0-9a-f]{64}", plain)
    for text, same in (
        ("exp_name=b", True),
        ("output_dir=b", True),
        ("distributed.mode=auto", True),
        ("seed=1", False),
        ("task.seed=1", False),
        ("lora.alpha=16", True),
        ("lora.alpha=17", False),
    ):
        assert (config_hash(load_config(path, [f"--config.{text}"])) == plain) is same, text


def make_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--limit", type=int)
    return parser


def test_command_line():
    argv = ["--config", "a.py", "--config.seed=1", "--limit=3", "--config.lora.rank=2"]
    namespace, overrides = parse_command_line(make_parser(), argv)
    assert (namespace.config, namespace.limit) == ("a.py", 3)
    assert overrides == ["--config.seed=1", "--config.lora.rank=2"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: --config"),
        (["--config"], "expected one argument"),
        (["--config", "a.py", "--limit", "x"], "invalid int value"),
        (["--config", "a.py", "--limt=3"], "'--limt=3' is unknown (did you mean '--limit'?)"),
        (["--config", "a.py", "--lim=3"], "'--lim=3' is unknown"),
        (["--config", "a.py", "extra"], "'extra' is unknown"),
        (["--config", "a.py", "--config.seed", "3"], "expected --config.KEY=VALUE"),
        (["--config", "a.py", "--confg.seed=3"], "(did you mean '--config.seed'?)"),
    ],
)
def test_command_line_refused(argv, message):
    with pytest.raises(InputError) as caught:
        parse_command_line(make_parser(), argv)
    assert message in str(caught.value)


def test_leaf_imports_nothing_of_the_package_above_it():
    """The rooms' order: config may import errors and its schema only."""
    for name in ("config", "config_schema"):
        tree = ast.parse((ROOT / "reoac_jax" / f"{name}.py").read_text())
        modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        ours = {module for module in modules if module.startswith("reoac_jax")}
        assert ours <= {"reoac_jax.system.errors", "reoac_jax.config.schema"}
