"""How much a policy that looks at the problem could be worth, before one is trained.

    python scripts/room.py --config configs/mixed.py --output benchmarks/room_mixed

On development problems, with the backbone of the configuration as it is:

- samplers: every rule that decides itself how much it reveals, and schedules by hand, swept; the
  best at the most mean passes that any of the next takes;
- fixed sequences of operators: the best for all problems, and the best for those of each length
  of the answer, and of each direction where some are answered backwards, where a pass is charged
  as in training (`reward.cost_lambda`);
- choice: the first operator (or the first two) forced, the others drawn near the best sequence:
  each keeps its place with probability --follow, otherwise it is another one. What is best for all
  problems, for those of a length and for each problem is chosen on one half of a problem's rollouts
  and scored on the other, both ways, so that luck is not taken for a choice.

What a choice for each problem is worth above the best of the others is the room. OUTPUT.jsonl holds
the rows, and a second call goes on where the first one stopped; OUTPUT.json the table.
"""

import argparse
import collections
import dataclasses
import itertools
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import reoac_jax  # first: it says in one line what JAX refuses of the environment

# isort: split
import jax
import jax.numpy as jnp
import numpy as np
from frontier.budgets import Point, at_budget, paired_difference
from frontier.grids import adaptive
from frontier.measure import Study, answer_length, studying
from frontier.rows import pack, point, unpack
from ml_collections import FrozenConfigDict
from sequence_search import search_sequence

from reoac_jax.config import config_hash, parse_command_line, to_json
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import BETWEEN, Surroundings
from reoac_jax.learning.parts import Parts, load_parts, untrained
from reoac_jax.policy.heads import HeadOutput
from reoac_jax.policy.observation import Observation
from reoac_jax.rollout import Request, in_order
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_json
from reoac_jax.tasks import Problem
from reoac_jax.tasks.decode import generated_text
from reoac_jax.tasks.problem_set import ProblemSet

ROUNDS = ((60, 128), (24, 256), (8, 512))  # of the searches: sequences and problems
_FORCED = 50.0  # a logit that nothing is drawn against, and half of it for what acts in its place


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="without a suffix")
    parser.add_argument("--dev", type=int, default=900, help="problems of samplers and searches")
    parser.add_argument("--problems", type=int, default=450, help="problems of the choice")
    parser.add_argument("--rollouts", type=int, default=12, help="of each problem and operator")
    parser.add_argument("--follow", type=float, default=0.7, help="see above")
    parser.add_argument("--forced", type=int, default=1, help="operators that are chosen: 1 or 2")
    options, overrides = parse_command_line(parser, argv)
    with studying(options, overrides) as study:
        config = study.config()
        parts = load_parts(config)
        measure_samplers(study, config, parts)
        sequences = search(study, config, parts)
        chosen = measure_choice(study, config, parts, sequences["all"])
        write_json(
            options.output.with_suffix(".json"),
            {
                "command": shlex.join(["python", "scripts/room.py", *argv]),
                "versions": {"reoac_jax": reoac_jax.__version__, "jax": jax.__version__},
                "platform": platform.machine(),
                "config": to_json(config),
                "steps": config.rollout.max_steps,
                **table(study, sequences, chosen),
            },
        )
    return 0


def measure_samplers(study: Study, config: FrozenConfigDict, parts: Parts) -> None:
    start = untrained(config, parts)
    for family, policy in adaptive(blocks=(0,)):
        study.row("start", 0, family, policy, "dev", config, parts, start)
    study.forget_programs()


def search(study: Study, config: FrozenConfigDict, parts: Parts) -> dict[str, str]:
    """The best fixed sequence for all development problems, for each length of the answer and for
    each direction."""
    start = untrained(config, parts)
    problems = study.task.problems("dev")
    lengths = lengths_of(problems, parts, study)
    wanted: dict[str, Callable[[Problem], bool]] = {"all": lambda problem: True}
    for length in sorted(set(lengths)):
        wanted[str(length)] = lambda p, n=length: answer_length(study, parts, p) == n  # type: ignore[misc]
    if any(map(is_backwards, problems)):
        wanted |= {"forwards": lambda p: not is_backwards(p), "backwards": is_backwards}
    found = {}
    for name, these in wanted.items():
        family = f"sequence {name}"
        done = [row["policy"] for row in study.rows.all if row["family"] == family]
        if not done:
            best = search_sequence(
                config, parts, study.task, config.seed, these, ROUNDS, config.reward.cost_lambda
            )
            print(f"{name}: best of {best.tried} sequences {best.accuracy:.1%}", flush=True)
            done = [best.policy]
        found[name] = done[0]
        study.row("start", 0, family, done[0], "dev", config, parts, start)
    study.forget_programs()
    return found


def is_backwards(problem: Problem) -> bool:
    return problem.metadata.get("backwards", False)


def lengths_of(problems: Sequence[Problem], parts: Parts, study: Study) -> list[int]:
    return [answer_length(study, parts, problem) for problem in problems]


class LogitsOfStep:
    """Heads that see the step alone; their parameters are the logits of each, `[T, A]`."""

    def apply(
        self, params: jax.Array, observation: Observation[jax.Array], step: jax.Array
    ) -> HeadOutput:
        logits = params[step]
        return HeadOutput(logits, jnp.zeros_like(logits))


def logits_near(
    sequence: Sequence[int], forced: Sequence[int], operators: int, follow: float, fallback: int
) -> np.ndarray:
    """Logits float32 `[T, A]`: the first operators forced, the others drawn near a sequence."""
    near = np.full((len(sequence), operators), np.log((1.0 - follow) / (operators - 1)), np.float32)
    near[np.arange(len(sequence)), sequence] = np.log(follow)
    for step, operator in enumerate(forced):
        near[step] = 0.0
        near[step, fallback] = _FORCED / 2
        near[step, operator] = _FORCED
    return near


def measure_choice(
    study: Study, config: FrozenConfigDict, parts: Parts, sequence: str
) -> Mapping[str, np.ndarray]:
    """By name of what is forced, which rollouts of which problem were right, bool `[P, R]`."""
    options = study.options
    names = list(config.operators.names)
    problems = ProblemSet.load(study.task, "dev", parts.tokenizer, config, options.problems)
    settings = dataclasses.replace(
        parts.rollout_settings(config, evaluation=True),
        selection_mode="sample",
        use_hidden=False,
        extra_features=False,
        operator_preview=False,
        rows=False,
    )
    mesh = sharding.make_mesh()
    program = Surroundings(config, parts, mesh).rollout(LogitsOfStep(), settings)
    params = sharding.replicate(mesh, parts.base)
    special = parts.vocabulary.is_special
    count = options.problems * options.rollouts
    chosen = {}
    for forced in itertools.product(range(len(names)), repeat=options.forced):
        name = BETWEEN.join(names[operator] for operator in forced)

        def measure(forced: Sequence[int] = forced) -> dict[str, Any]:
            heads = logits_near(
                [names.index(operator) for operator in sequence.split(BETWEEN)],
                forced, len(names), options.follow, settings.fallback_operator,
            )  # fmt: skip
            requests = [Request.of(problems, row // options.rollouts, row) for row in range(count)]
            results = in_order(
                program(
                    params, sharding.replicate(mesh, heads), jax.random.key(config.seed), requests
                )
            )
            texts = [generated_text(row, parts.tokenizer, special) for row in results.tokens]
            repeated = [p for p in problems.problems for _ in range(options.rollouts)]
            right = np.array([grade.correct for grade in study.task.grade(texts, repeated)])
            passes = float(results.steps.forward_passes.sum(axis=1).mean())
            return {"accuracy": float(right.mean()), "passes": passes, "correct": pack(right)}

        key = {
            "subject": "start",
            "seed": 0,
            "family": f"forced near {sequence} {options.follow} x {options.rollouts}",
            "policy": name,
            "split": "dev",
            "problems": count,
            "config_hash": config_hash(config),
            "backbone_hash": parts.base_hash,
        }
        row = study.rows.measured(key, measure)
        chosen[name] = unpack(row).reshape(options.problems, options.rollouts)
    return chosen


def table(
    study: Study, sequences: Mapping[str, str], chosen: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """What stands in OUTPUT.json: shares of the problems that are solved."""
    options, task = study.options, study.task
    parts = load_parts(study.config())
    lengths = np.array(lengths_of(task.problems("dev")[: options.dev], parts, study))
    rows = study.rows.all
    of_sequence = {
        name: next(point(row) for row in rows if row["family"] == f"sequence {name}")
        for name in sequences
    }
    mixed = np.zeros(options.dev)
    for length in sorted(set(lengths)):
        mixed[lengths == length] = of_sequence[str(length)].correct[lengths == length]
    directed = {}
    if "backwards" in of_sequence:
        backwards = np.array([is_backwards(p) for p in task.problems("dev")[: options.dev]])
        correct = [of_sequence[name].correct for name in ("backwards", "forwards")]
        directed = {"sequence of each direction": np.where(backwards, *correct)}
    passes = max(row["passes"] for row in rows if row["family"].startswith(("sequence", "forced")))
    families: dict[str, list[Point]] = collections.defaultdict(list)
    for row in rows:
        if not row["family"].startswith(("sequence", "forced")):
            families[row["family"]].append(point(row))
    reached = {name: at_budget(points, passes) for name, points in families.items()}
    samplers = {name: float(x.mean()) for name, x in reached.items() if x is not None}
    by_length = {
        name: {str(n): float(x[lengths == n].mean()) for n in sorted(set(lengths))}
        for name, x in {
            **{name: x for name, x in reached.items() if x is not None},
            "sequence": of_sequence["all"].correct,
            "sequence of each length": mixed,
            **directed,
        }.items()
    }
    choice = choices(chosen, lengths[: options.problems])
    others = max(
        *samplers.values(), of_sequence["all"].accuracy, float(mixed.mean()),
        choice["all"], choice["length"],
    )  # fmt: skip
    return {
        "mean passes": passes,
        "samplers at these passes": samplers,
        "samplers, best at any passes": {
            name: {"accuracy": best.accuracy, "passes": best.passes, "policy": best.name}
            for name, points in families.items()
            for best in [max(points, key=lambda p: p.accuracy)]
        },
        "sequences": dict(sequences),
        "sequence": of_sequence["all"].accuracy,
        "sequence of each length": float(mixed.mean()),
        **{name: float(correct.mean()) for name, correct in directed.items()},
        "sequence - each sampler at its passes": {
            name: paired_difference(of_sequence["all"].correct, theirs)._asdict()
            for name, points in families.items()
            if (theirs := at_budget(points, of_sequence["all"].passes)) is not None
        },
        "by length of the answer": by_length,
        f"first {options.forced} chosen, the others drawn": choice,
        "room": choice["problem"] - others,
    }


def choices(chosen: Mapping[str, np.ndarray], lengths: np.ndarray) -> dict[str, Any]:
    """What the best choice for all problems, for a length and for each problem is worth.

    Each is chosen on one half of the rollouts and scored on the other, both ways; `any` is the
    share of the problems that some rollout solves.

    Args:
      chosen: by what is forced, bool or float `[P, R]`, which rollouts of which problem were right.
      lengths: `[P]`, of the answers.
    """
    right = np.stack([chosen[name] for name in chosen])  # [A, P, R]
    half = right.shape[-1] // 2
    first, second = right[..., :half].mean(axis=-1), right[..., half:].mean(axis=-1)
    problems = np.arange(right.shape[1])
    scores = {name: np.zeros(len(problems)) for name in ("all", "length", "problem")}
    for seen, scored in ((first, second), (second, first)):
        scores["all"] += scored[seen.mean(axis=1).argmax()] / 2
        for length in set(lengths):
            these = lengths == length
            scores["length"][these] += scored[seen[:, these].mean(axis=1).argmax(), these] / 2
        scores["problem"] += scored[seen.argmax(axis=0), problems] / 2
    return {
        **{name: float(values.mean()) for name, values in scores.items()},
        "problem - all": paired_difference(scores["problem"], scores["all"])._asdict(),
        "any": float(right.any(axis=(0, 2)).mean()),
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
