"""Configurations: the bundled files, every kind of mistake, overrides, JSON and hash."""

import argparse
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict

from reoac_jax.config import (
    Option,
    base,
    config_hash,
    dependent_options,
    fixed_options,
    load_config,
    parse_command_line,
    to_json,
    validate,
)
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import write_json
from reoac_jax.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs").glob("*.py"))
NAMES = [path.stem for path in FILES]
FIXED = fixed_options()


class Toy:
    options = {"size": Option("int", "size", low=1, high=9)}


class Big:
    options = {"size": Option("int", "size", 7, low=1, high=99)}


@pytest.fixture
def toy_tasks(monkeypatch):
    """Two tasks more: `toy`, whose `size` has no default, and `big`."""
    monkeypatch.setitem(TASKS, "toy", Toy)
    monkeypatch.setitem(TASKS, "big", Big)


def flat(config, prefix=""):
    values = {}
    for key, value in config.items():
        is_section = isinstance(value, dict)
        values |= flat(value, f"{prefix}{key}.") if is_section else {f"{prefix}{key}": value}
    return values


@pytest.fixture
def tiny(configs):
    """The whole tiny configuration as a nested dict that a test may break."""
    return to_json(load_config(configs / "tiny.py"))


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
def test_bundled_configs_become_complete(configs, name):
    values = flat(to_json(load_config(configs / f"{name}.py")))
    assert set(values) == {"format", *FIXED, *dependent_options(values)}
    assert set(FIXED) < set(values)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_bundled_configs_are_short_and_say_command_cost_and_result(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    said = ast.get_docstring(ast.parse(text))
    assert re.search(r"^    (python -m|bash) ", said, re.MULTILINE)
    assert re.search(r"^Cost: ", said, re.MULTILINE) or " Cost: " in said
    assert "Result to expect" in said


def test_what_is_known_to_learn(configs):
    """gsm8k.py and math.py; the original's values stand apart."""
    for name in ("gsm8k", "math"):
        config = load_config(configs / f"{name}.py")
        assert config.objective.actor == "policy_gradient"
        assert config.objective.backbone == "generated"
        assert config.train.episodes_per_prompt >= 4 and not config.features.use_hidden
    assert load_config(configs / "gsm8k_original.py").objective.actor == "soft_q"
    assert "cannot learn from a backbone that solves nothing" in " ".join(
        (configs / "gsm8k_original.py").read_text().split()
    )


def test_gsm8k_original_has_the_originals_values(configs):
    config = load_config(configs / "gsm8k_original.py")
    assert (config.rollout.max_steps, config.rollout.gen_len) == (32, 64)
    assert (config.rollout.branch_steps, config.rollout.branch_k) == ((4, 8, 12), 3)
    assert (config.lora.rank, config.lora.alpha, config.reward.cost_lambda) == (8, 16.0, 0.01)
    rates = config.optimizer
    assert (rates.actor_rate, rates.critic_rate, rates.backbone_rate) == (1e-4, 1e-4, 5e-6)
    train = config.train
    assert (train.critic_steps, train.actor_steps, train.backbone_steps) == (2, 1, 1)
    assert (train.buffer_size, train.iterations, train.episodes_per_iter) == (800, 50, 32)


def every_option():
    """Key to option, those of every task included."""
    found = dict(FIXED)
    defaults = {key: option.default for key, option in FIXED.items()}
    for name in TASKS:
        for key, option in dependent_options(defaults | {"task.name": name}).items():
            found[f"{key} of {name}"] = option
    return found


@pytest.mark.parametrize("key", every_option())
def test_every_option_has_a_sentence_and_a_legal_default(key):
    option = every_option()[key]
    assert re.search(r"\w{2}", option.doc) and "\n" not in option.doc
    assert option.default is not None, f"{key} has no default"
    accepted = option.accept(option.default)
    assert accepted == option.default and type(accepted) is type(option.default)


def test_a_default_out_of_range_is_refused():
    for kind, default, bounds in (
        ("int", 0, {"low": 1}),
        ("str", "c", {"choices": ("a", "b")}),
        ("ints", (1, 99), {"high": 9}),
    ):
        with pytest.raises(ValueError):
            Option(kind, "of a test", default, **bounds)


def test_every_key_is_read_somewhere_in_the_package():
    """By its name, as an attribute or a text, in a file other than those that declare it."""
    words = set()
    for path in (ROOT / "reoac_jax").rglob("*.py"):
        if path.name == "options.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                words.add(node.target.id)  # a settings field that takes a key's name
    keys = {key.split(" ")[0] for key in every_option()}
    unread = {key for key in keys if not set(key.split(".")) <= words}
    assert not unread


@pytest.mark.parametrize("key", sorted(FIXED))
def test_every_key_has_its_default_and_its_type(tiny, key):
    *sections, last = key.split(".")
    section = tiny
    for name in sections:
        section = section[name]
    kept = section.pop(last)
    wrong = 1.5 if isinstance(kept, bool) else True
    for value in (wrong, None, {}, float("nan"), [None], ("", "")):
        section[last] = value
        with pytest.raises(InputError, match=f"{re.escape(key)}.*expected"):
            validate(tiny)
    section[last] = kept
    validate(tiny)


@pytest.mark.parametrize("key", sorted(FIXED))
def test_a_record_has_to_be_complete(tiny, tmp_path, key):
    """A run's config.json that lacks a key is of another version: no default replaces it.

    But of a key that came later it is known what was done before.
    """
    *sections, last = key.split(".")
    section = tiny
    for name in sections:
        section = section[name]
    del section[last]
    write_json(tmp_path / "config.json", tiny)
    if FIXED[key].before is not None:
        assert load_config(tmp_path / "config.json") == validate(tiny | {})
        return
    message = refused(tmp_path / "config.json")
    assert f"key '{key}' is missing" in message or key == "task.name" and "task." in message


def test_keys_that_came_later_do_not_change_the_hash_of_what_was_computed_before(configs, tiny):
    rows = load_config(configs / "tiny.py", ["--config.heads.reads=rows"])
    plain = load_config(configs / "tiny.py")
    del tiny["heads"]["reads"], tiny["format"]
    assert config_hash(plain) == config_hash(tiny) != config_hash(rows)
    assert rows.heads.rows.width % rows.heads.rows.attention_heads == 0
    assert "rows" not in plain.heads
    narrow = ["--config.heads.reads=rows", "--config.heads.rows.width=6"]
    assert "heads.rows.width is 6" in refused(configs / "tiny.py", narrow)


def test_where_a_critic_may_not_be_a_backbone(configs):
    copy = ["--config.heads.critic=backbone", "--config.sharding.fsdp=True"]
    assert "lies whole on every device" in refused(configs / "tiny.py", copy)
    copy[1] = "--config.reward.passes_exponent=1"
    assert "reward.passes_exponent 1.0; expected 0" in refused(configs / "tiny.py", copy)
    copy[1] = "--config.backbone.param_dtype=stored"
    assert "heads.backbone.mode is full" in refused(configs / "tiny.py", copy)
    assert load_config(configs / "tiny.py", [*copy, "--config.heads.backbone.mode=lora"])


def test_a_file_that_sets_one_key_is_complete(write_config):
    path = write_config(
        "from reoac_jax.config import base\n"
        "def get_config():\n    config = base()\n    config.task.numbers = 4\n    return config\n"
    )
    values = flat(to_json(load_config(path)))
    assert values.pop("task.numbers") == 4
    plain = flat(to_json(validate(base())))
    assert plain.pop("task.numbers") == 3
    assert values == plain and set(FIXED) < set(plain)
    for key, option in FIXED.items():
        expected = list(option.default) if isinstance(option.default, tuple) else option.default
        assert plain[key] == expected


def test_base_is_new_every_time():
    base().rollout.max_steps = 3
    assert base().rollout.max_steps == FIXED["rollout.max_steps"].default != 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.rollout.max_step = 8", "(did you mean 'rollout.max_steps'?)"),
        ("config.rollout.update(max_step=8)", "(did you mean 'rollout.max_steps'?)"),
        ("config.rolout = 3", "key 'rolout' is unknown"),
        ("config.rolout.max_steps = 3", "line 4: AttributeError"),
        ("config.rollout.max_steps = 8.0", "rollout.max_steps is 8.0; expected an integer from 1"),
        ("config.rollout = 3", "'rollout' is no section"),
        ("config.task.nunbers = 4", "(did you mean 'task.numbers'?)"),
        ("config.task.name = 'gsm8'", "(did you mean 'gsm8k'?)"),
        ("config.task.name = 3", "task.name is 3; expected a text"),
    ],
)
def test_mistakes_in_a_file(write_config, line, message):
    path = write_config(
        "from reoac_jax.config import base\n"
        f"def get_config():\n    config = base()\n    {line}\n    return config\n"
    )
    assert message in refused(path)


@pytest.mark.process
def test_finding_the_options_is_light():
    """Not what only some commands need; all that load one compute with JAX."""
    code = (
        "import sys; from reoac_jax.config import load_config; load_config('configs/tiny.py'); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'scipy', 'matplotlib') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("key", [key for key in sorted(FIXED) if FIXED[key].low is not None])
def test_ranges_are_inclusive(key):
    option = FIXED[key]
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
        ("rollout.branch_k=5", "expected at most 4"),
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


@given(st.text(max_size=40), st.sampled_from(sorted(FIXED)))
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
    assert "cannot be read as JSON" in refused(write_config("{", "a.json"))
    assert "cannot be read as JSON" in refused(write_config(b"\xff", "b.json"))
    assert "no JSON object" in refused(write_config("[1]", "c.json"))


def test_sections_refused(tiny):
    for broken, message in (
        (tiny | {"rollout": 3}, "'rollout' is no section"),
        (tiny | {"rolout": {}}, "key 'rolout' is unknown"),
        (tiny | {"task": {"name": 3}}, "task.name is 3"),
    ):
        with pytest.raises(InputError, match=message):
            validate(broken)


def test_integers_become_floats_and_lists_tuples(tiny):
    tiny["lora"]["alpha"] = 4
    tiny["rollout"]["branch_steps"] = [1, 2]
    config = validate(ConfigDict(tiny))
    assert type(config.lora.alpha) is float
    assert config.rollout.branch_steps == (1, 2)


def test_task_options(tiny, tmp_path, toy_tasks):
    # What every task has.
    chat = {name: tiny["task"][name] for name in ("prompt", "system_prompt", "worked_examples")}
    tiny["task"] = {"name": "toy", "size": 9} | chat
    write_json(tmp_path / "config.json", tiny)
    path = tmp_path / "config.json"
    assert load_config(path).task.size == 9
    message = refused(path, ["--config.task.size=10"])
    assert "expected an integer from 1 to 9" in message
    overrides = ["--config.task.size=10", "--config.task.name=big"]
    assert load_config(path, overrides).task.size == 10
    assert "'toi'" in (message := refused(path, ["--config.task.name=toi"]))
    assert "did you mean 'toy'" in message
    assert "'task.size' is unknown" in refused(path, ["--config.task.name=gsm8k"])
    tiny["task"] = {"name": "toy", "sise": 9} | chat
    with pytest.raises(InputError, match="'task.sise' is unknown .did you mean 'task.size'"):
        validate(tiny)
    tiny["task"] = {"name": "toy", "size": None} | chat
    with pytest.raises(InputError, match="task.size is None"):
        validate(tiny)
    tiny["task"] = {"name": "toy"} | chat
    with pytest.raises(InputError, match="key 'task.size' is missing"):
        validate(tiny)
    tiny["task"] = {"name": "big"} | chat
    assert validate(tiny).task.size == 7


# ---- Files: neighbours, arguments, other folders

GET_BASE = "from reoac_jax.config import base\ndef get_config():\n    config = base()\n"


def seeded(seed):
    return f"{GET_BASE}    config.seed = {seed}\n    return config\n"


def test_a_config_imports_its_neighbour(tmp_path, monkeypatch):
    """Each folder's own, whatever else has the name, and nothing of it is left afterwards."""
    for folder, seed in (("a", 1), ("b", 2), ("elsewhere", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tiny.py").write_text(seeded(seed))
    for folder in ("a", "b"):
        (tmp_path / folder / "mine.py").write_text("from tiny import get_config\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    path, modules = list(sys.path), set(sys.modules)
    finders = list(sys.meta_path)
    assert load_config(tmp_path / "a" / "mine.py").seed == 1
    assert load_config(tmp_path / "b" / "mine.py").seed == 2
    monkeypatch.chdir(tmp_path / "b")
    assert load_config("../a/mine.py").seed == 1
    # Rewritten at once, at the same size.
    (tmp_path / "b" / "tiny.py").write_text(seeded(4))
    assert load_config("mine.py").seed == 4
    assert sys.path == path and sys.meta_path == finders
    assert not {"tiny", "mine"} & (set(sys.modules) - modules)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["mine.py", "tiny.py"]
    import tiny  # of elsewhere, where everything but a configuration finds it

    assert tiny.get_config().seed == 3
    assert load_config("mine.py").seed == 4
    assert sys.modules["tiny"] is tiny
    monkeypatch.delitem(sys.modules, "tiny")


def test_a_neighbour_imported_late_or_named_like_pythons(write_config, tmp_path):
    write_config(seeded(5), "late.py")
    write_config("pi = 3\n", "math.py")
    write_config("raise SystemExit(1)\n", "__main__.py")
    path = write_config(
        "import math, __main__\ndef get_config():\n    from late import get_config\n"
        "    config = get_config()\n    config.lora.alpha = math.pi\n    return config\n"
    )
    config = load_config(path)
    assert config.seed == 5 and 3.1 < config.lora.alpha < 3.2


def test_a_mistake_in_a_neighbour_names_it(write_config, tmp_path):
    write_config("def get_config():\n    return 1 / 0\n", "wrong.py")
    message = refused(write_config("from wrong import get_config\n"))
    assert f"{tmp_path / 'wrong.py'}, line 2: ZeroDivisionError" in message
    write_config("def get_config(:\n", "wrong.py")
    message = refused(write_config("from wrong import get_config\n"))
    assert f"{tmp_path / 'wrong.py'}, line 1: syntax error" in message
    message = refused(write_config("from wrog import get_config\n"))
    assert "line 1: ModuleNotFoundError: No module named 'wrog'" in message


def test_an_argument(write_config):
    path = write_config(
        f"{GET_BASE.replace('()', '(size)', 1)}    config.exp_name = size\n    return config\n"
    )
    assert load_config(f"{path}:large").exp_name == "large"
    assert load_config(f"{path}:a:b").exp_name == "a:b"
    assert f"does not take no argument; expected {path}:ARGUMENT" in refused(path)
    plain = write_config(seeded(1), "plain.py")
    assert f"does not take the argument 'x'; expected {plain} alone" in refused(f"{plain}:x")
    assert f"{path.with_name('absent.py')} does not exist" in refused(f"{path.parent}/absent.py:x")


def test_where_a_relative_path_was_looked_for(write_config, tmp_path, monkeypatch):
    write_config(seeded(1), "small.py")
    monkeypatch.chdir(tmp_path)
    assert load_config("small.py").seed == 1 == load_config(tmp_path / "small.py").seed
    message = refused("smal.py")
    assert f"smal.py does not exist in {tmp_path} (did you mean 'small.py'?)" in message
    assert f"configs/tiny.py does not exist in {tmp_path}; expected" in refused("configs/tiny.py")


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
