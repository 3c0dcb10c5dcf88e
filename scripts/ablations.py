"""What each choice of the objective and of the observation is worth: one training run without it.

    python scripts/ablations.py --config configs/tiny.py --output benchmarks/ablations_tiny
    python scripts/ablations.py --of notation --config configs/tiny.py --output \
        benchmarks/notation_tiny

Every variant changes the configuration in the way its line says, trains, and is evaluated greedily
on unseen problems. Each row is written to OUTPUT.jsonl as soon as it is known, and a second call
goes on where the first one stopped; at the end OUTPUT.json holds all rows and the command, and the
table is printed as Markdown.
"""

import argparse
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import reoac_jax  # first: it says in one line what JAX refuses of the environment

# isort: split
import jax
from frontier.measure import studying, trained_run

from reoac_jax.config import config_hash, parse_command_line, to_json
from reoac_jax.evaluation.policies import ACTOR
from reoac_jax.learning.parts import load_parts, load_trained
from reoac_jax.report.runs import read_metrics
from reoac_jax.runs.folder import CHECKPOINTS, METRICS
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_json

# What is changed, in words, and the keys.
CHOICES: dict[str, dict[str, object]] = {
    "as configured": {},
    "original objective: soft_q, temperature 1": {"objective.actor": "soft_q"},
    "soft_q, temperature 0.02": {
        "objective.actor": "soft_q", "objective.soft_q.temperature": 0.02,
    },
    "advantage by the critic (GAE, lambda 0.9)": {"objective.advantage": "critic"},
    "no entropy bonus": {"objective.policy_gradient.entropy_weight": 0.0},
    "entropy weight 0.03": {"objective.policy_gradient.entropy_weight": 0.03},
    "4 episodes a prompt instead of 12": {"train.episodes_per_prompt": 4},
    "shaped reward": {"reward.mode": "shaped"},
    "relation temperature 0.1": {"features.relation_temperature": 0.1},
    "without progress and confidence": {"features.extra_features": False},
    "without the operators' preview": {"features.operator_preview": False},
    "11 features alone": {
        "features.extra_features": False, "features.operator_preview": False,
    },
    "with the pooled hidden state": {"features.use_hidden": True},
    "O_SCOPE a window of 2 positions": {"operators.O_SCOPE.scope_len": 2},
    "rows of 13: the answer's length is known": {"rollout.gen_len": 13},
}  # fmt: skip
# What the heads know of the text. Critics that see more have more to learn, and take more steps, on
# fewer transitions each; with a buffer of one iteration no hidden state is computed again.
_LONGER: dict[str, object] = {
    "train.critic_steps": 64, "train.head_batch": 512, "train.buffer_size": 1152,
}  # fmt: skip
NOTATION: dict[str, dict[str, object]] = {
    "features": _LONGER,
    "features and notation": {**_LONGER, "features.notation": True},
    "rows": {**_LONGER, "heads.reads": "rows"},
    "rows and notation": {**_LONGER, "heads.reads": "rows", "features.notation": True},
}
GROUPS = {"choices": CHOICES, "notation": NOTATION}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--output", type=Path, required=True, help="path without an ending")
    parser.add_argument(
        "--problems", type=int, default=1000, dest="test", metavar="N", help="test problems"
    )
    parser.add_argument(
        "--of", choices=GROUPS, default="choices", help="which variants (default: %(default)s)"
    )
    options, overrides = parse_command_line(parser, argv)
    rows = []
    with studying(options, overrides) as study:
        for number, (words, changes) in enumerate(GROUPS[options.of].items()):
            own = study.config(**changes)
            run = trained_run(study, str(number), options.config, own, changes)
            parts = load_parts(own)
            trained = load_trained(run / CHECKPOINTS, parts)
            row = study.row(words, own.seed, ACTOR, ACTOR, "test", own, parts, trained)
            last = read_metrics(run / METRICS)[0][-1]
            rows.append(row | {key: last[key] for key in ("explained_variance", "operator_shares")})
            study.forget_programs()
    config = study.config()
    write_json(
        options.output.with_suffix(".json"),
        {
            "command": shlex.join(["python", "scripts/ablations.py", *argv]),
            "config": to_json(config),
            "config_hash": config_hash(config),
            "machine": f"{platform.machine()}, {jax.devices()[0].device_kind}",
            "versions": {"reoac-jax": reoac_jax.__version__, "jax": jax.__version__},
            "rows": rows,
        },
    )
    print("| variant | accuracy | 95 % interval | critic's explained variance | operators |")
    print("|---|---|---|---|---|")
    for row in rows:
        shares = sorted(row["operator_shares"].items(), key=lambda item: -item[1])
        listed = ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.05)
        print(
            f"| {row['subject']} | {row['accuracy']:.1%} | {row['low']:.1%} to {row['high']:.1%} | "
            f"{row['explained_variance']:.2f} | {listed} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
