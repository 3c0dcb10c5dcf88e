"""Run folders of random episodes, without a model: what every step did is known, and returned."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reoac_jax.policy.features import EXTRA_FEATURES, FEATURES

# What a page, a script element, a CSV file and a picture may stumble over.
TEXTS = ["12", " the", "+", "</script>", "<b>&amp;", "$x_1$", "\n", '"', "猫", ",", "\\u003c", "7%"]
MASK = "[MASK]"
OPERATORS = ("O_NUM", "O_OP", "O_SCOPE", "O_BRANCH", "O_FAST")


class Simulated(NamedTuple):
    """record: as `samples/` holds it. rows: the tokens after each step, None where masked; the
    first is the start. states: after each step, `masked`, `revealed`, `repaired` or `kept`.
    confidences: what the page should say of each token, percent; None where it says nothing.
    """

    record: dict[str, Any]
    rows: list[list[str | None]]
    states: list[list[str]]
    confidences: list[list[int | None]]


def episode(
    seed: int, steps: int = 6, length: int = 9, overwrite: bool = False, iteration: int = 0
) -> Simulated:
    """A random episode. overwrite: revealed tokens may be written again, as under that rule."""
    rng = np.random.default_rng(seed)
    prompt = rng.choice(TEXTS, 5).tolist()
    rows: list[list[str | None]] = [[None] * length]
    states, confidences = [["masked"] * length], [[None] * length]
    records = []
    for step in range(steps):
        before, sure = rows[-1], rng.random(length).round(5)
        choosable = [i for i in range(length) if overwrite or before[i] is None]
        written = [i for i in choosable if rng.random() < 0.4 or step == steps - 1]
        repaired = [
            i
            for i in range(length)
            if before[i] is not None
            and i not in written
            and step < steps - 1
            and rng.random() < 0.1
        ]
        after, state, said = list(before), [], []
        for i in range(length):
            if i in repaired:
                after[i], one, percent = None, "repaired", confidences[-1][i]
            elif i in written:
                after[i], one, percent = str(rng.choice(TEXTS)), "revealed", round(100 * sure[i])
            elif before[i] is None:
                one, percent = "masked", round(100 * sure[i])
            else:
                one, percent = "kept", confidences[-1][i]
            state.append(one)
            said.append(percent)
        rows.append(after)
        states.append(state)
        confidences.append(said)
        records.append(_step(rng, before, sure, written, repaired))
    correct = bool(rng.random() < 0.5)
    record = {
        "iteration": iteration,
        "episode": seed % 100,
        "id": f"simulated/{seed}</script>",
        "prompt": "".join(prompt),
        "prompt_tokens": prompt,
        "reference": "</script><script>alert(1)</script>",
        "text": "".join(rows[-1]),
        "extracted": None if seed % 3 == 0 else "12",
        "expected": "12",
        "correct": correct,
        "reward": float(correct),
        "return": float(correct) - 0.1,
        "cost": 6.5,
        "tokens": rows[-1],
        "steps": records,
        "relation": rng.dirichlet(np.ones(len(prompt)), length).T.round(5).tolist(),
    }
    return Simulated(record, rows, states, confidences)


def _step(rng, before, sure, written, repaired) -> dict[str, Any]:
    chosen, operator = rng.integers(len(OPERATORS), size=2)
    branches = rng.random() < 0.3
    candidates = [
        {"operator": OPERATORS[o], "value": float(rng.normal()), "cost": 1.0}
        for o in rng.permutation(len(OPERATORS))[:2]
    ]
    names = [*FEATURES, *EXTRA_FEATURES]
    return {
        "operator": OPERATORS[operator],
        "chosen": OPERATORS[chosen],
        "executed": candidates[1]["operator"] if branches else OPERATORS[operator],
        "cost": float(rng.random()),
        "features": dict(zip(names, rng.normal(size=len(names)).round(5).tolist(), strict=True)),
        "logits": rng.normal(size=len(OPERATORS)).round(5).tolist(),
        "q": rng.normal(size=len(OPERATORS)).round(5).tolist(),
        "tokens": [MASK if token is None else token for token in before],
        "confidence": sure.tolist(),
        "written": written,
        "repaired": repaired,
        **({"candidates": candidates} if branches else {}),
    }


def metrics_line(iteration: int, steps: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(iteration)
    by_step = rng.integers(1, 9, (len(OPERATORS), steps))
    names = ("critic_loss", "actor_loss", "backbone_loss", "reward", "accuracy", "return", "cost",
             "forward_passes", "steps", "actor_entropy", "explained_variance")  # fmt: skip
    return {
        "iteration": iteration,
        **{name: float(rng.random()) for name in names},
        "operator_shares": dict(
            zip(OPERATORS, (by_step.sum(axis=1) / by_step.sum()).tolist(), strict=True)
        ),
        "operators_by_step": dict(zip(OPERATORS, by_step.tolist(), strict=True)),
    }


def write_run(folder: Path, iterations: int = 4, seed: int = 0, **config: Any) -> list[Simulated]:
    """A run's folder; returns the episodes of its samples, one an iteration, in order."""
    values = {
        "exp_name": "simulated",
        "task": {"name": "countdown"},
        "backbone": {"finetune_mode": "frozen"},
        "train": {"iterations": iterations},
        "seed": seed,
        "operators": {"names": list(OPERATORS)},
    }
    (folder / "samples").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(values | config))
    lines = [json.dumps(metrics_line(i)) + "\n" for i in range(iterations)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    episodes = [episode(100 * i + seed, iteration=i) for i in range(iterations)]
    for i, simulated in enumerate(episodes):
        path = folder / "samples" / f"{i:06d}_{seed:03d}.json"
        path.write_text(json.dumps(simulated.record))
    return episodes


def write_evaluation(path: Path, policy: str, accuracy: float, **changes: Any) -> Path:
    values = {
        "task": "countdown", "policy": policy, "accuracy": accuracy, "correct": 5, "samples": 10,
        "interval_95": [max(accuracy - 0.1, 0), min(accuracy + 0.1, 1)], "avg_cost": 7.5,
        "avg_steps": 7, "forward_passes": 6.5, "max_steps": 7, "checkpoint": None,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values | changes))
    return path
