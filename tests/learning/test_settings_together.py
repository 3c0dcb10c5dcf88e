"""Every pair of enumerated settings runs an iteration, or is refused before anything compiles."""

import collections
import itertools
import json
import random
from pathlib import Path

import pytest
from support import toy

from reoac_jax import train
from reoac_jax.config import load_config
from reoac_jax.config.rooms import check_together, fixed_options
from reoac_jax.policy.options import BACKBONE_CRITIC
from reoac_jax.system.errors import InputError, run_command

TINY = Path(__file__).resolve().parents[2] / "configs" / "tiny.py"
SECTIONS = (
    "backbone.finetune_mode", "rollout.", "features.", "objective.", "reward.mode", "heads.critic",
)  # fmt: skip
# The first names an operator and changes no rule; the second is refused in training.
LEFT_OUT = {"rollout.fallback_operator", "rollout.cache"}
NUMBERS = {  # what a number switches on
    "rollout.branch_k": (0, 2),
    "rollout.repair_tokens": (0, 1),
    "train.episodes_per_prompt": (1, 2),
    "train.backbone_accumulate": (1, 2),
}
SMALL = {
    "rollout.max_steps": 3, "rollout.gen_len": 6, "rollout.max_prompt_len": 8,
    "rollout.batch_size": 4, "rollout.branch_steps": (1,), "train.iterations": 1,
    "train.episodes_per_iter": 4, "train.buffer_size": 4, "train.critic_steps": 1,
    "train.actor_steps": 1, "train.backbone_steps": 1, "train.head_batch": 8,
    "train.backbone_batch": 4, "task.train_size": 8, "task.test_size": 4,
    "backbone.dropout": 0.1, "lora.rank": 2, "logging.samples_per_iter": 1,
}  # fmt: skip
REFUSED = {
    # The probability of a pick is needed.
    frozenset({("objective.actor", "policy_gradient"), ("rollout.selection_mode", "argmax")}),
}


def settings() -> dict[str, tuple]:
    """Every enumerated key of what is rolled out and learned, and its values."""
    found = {**NUMBERS, "heads.backbone.mode": BACKBONE_CRITIC["heads.backbone.mode"].choices}
    for key, option in fixed_options().items():
        if key.startswith(SECTIONS) and key not in LEFT_OUT:
            if option.kind == "bool":
                found[key] = (False, True)
            elif option.kind == "str" and option.choices:
                found[key] = option.choices
    return found


def flat(config, prefix=""):
    for key, value in config.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# Three at once: final texts hold masks where a step of another operator never wrote.
THREE = {
    "rollout.update_rule": "overwrite", "objective.backbone": "generated",
    "backbone.finetune_mode": "lora", "train.episodes_per_prompt": 2,
}  # fmt: skip


def covering(values: dict[str, tuple], first: dict) -> tuple[list[dict], set[frozenset]]:
    """Few legal choices that hold every pair of values between them, the first one those of
    `first`; and the pairs none holds."""
    rng = random.Random(133)  # of a hundred, the fewest choices
    complete = dict(flat(load_config(TINY))) | SMALL

    def legal(choice):
        try:
            check_together(complete | choice)
        except InputError:
            return False
        return True

    def pairs(choice):
        return {frozenset(pair) for pair in itertools.combinations(choice.items(), 2)}

    def possible(pair):
        anything = ({k: rng.choice(x) for k, x in values.items()} for _ in range(100))
        return any(legal(choice | dict(pair)) for choice in anything)

    def grown(choice):
        """More and more of a choice, each time the value that holds the most open pairs."""
        choice = dict(choice)
        for key in rng.sample(list(values), len(values)):
            if key in choice:
                continue

            def gain(value, key=key):
                new = {frozenset({(key, value), other}) for other in choice.items()}
                return len(new & open_pairs) if not new & refused else -1

            choice[key] = max(rng.sample(values[key], len(values[key])), key=gain)
        return choice

    every = {
        frozenset({(a, x), (b, y)})
        for a, b in itertools.combinations(values, 2)
        for x in values[a]
        for y in values[b]
    }
    refused = {pair for pair in sorted(every, key=sorted) if not possible(pair)}
    open_pairs, chosen, begin = every - refused, [], first
    while open_pairs:
        tried = [choice for choice in (grown(begin) for _ in range(20)) if legal(choice)]
        if tried:
            chosen.append(max(tried, key=lambda choice: len(pairs(choice) & open_pairs)))
            open_pairs -= pairs(chosen[-1])
        if open_pairs:  # of the values that are in most of them
            count = collections.Counter(value for pair in open_pairs for value in pair)
            begin = max(
                sorted(open_pairs, key=sorted), key=lambda pair: sum(count[x] for x in pair)
            )
    return chosen, refused


CHOICES, IMPOSSIBLE = covering(settings(), THREE)


def test_what_is_refused():
    assert IMPOSSIBLE == REFUSED


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return toy.word_backbone(tmp_path_factory.mktemp("backbone") / "toy")


def argument(key, value):
    return f"--config.{key}={value}"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CHOICES)))
def test_an_iteration(number, backbone, tmp_path):
    choice = SMALL | CHOICES[number]
    if choice["heads.critic"] == "head":
        del choice["heads.backbone.mode"]
    argv = ["--config", str(TINY), *(argument(key, value) for key, value in choice.items())]
    argv += [f"--config.backbone.path={backbone}", f"--config.output_dir={tmp_path}"]
    assert run_command(train.main, argv) == 0
    (run,) = (tmp_path / "tiny").iterdir()
    (line,) = (run / "metrics.jsonl").read_text().splitlines()  # finite, or it would have stopped
    losses = {name for name in json.loads(line) if name.endswith("_loss")}
    trained = choice["backbone.finetune_mode"] != "frozen"
    assert losses == {"critic_loss", "actor_loss"} | ({"backbone_loss"} if trained else set())


def test_a_refusal_comes_before_everything(tmp_path, capsys):
    """The backbone is not even looked for."""
    for pair in REFUSED:
        argv = ["--config", str(TINY), *(argument(key, value) for key, value in pair)]
        argv += ["--config.backbone.path=nowhere", f"--config.output_dir={tmp_path}"]
        assert run_command(train.main, argv) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "nowhere" not in error
    assert not any(tmp_path.iterdir())
