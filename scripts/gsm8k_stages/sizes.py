"""What the chain is run on: the backbone, the configurations, and how much of everything."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from frontier.grids import BOUNDS, FACTORS, RUNS, THRESHOLDS

ROOT = Path(__file__).resolve().parents[2]
_MB = 10**6


def _values(parameter: str, values: Sequence[float | int]) -> str:
    return f"{parameter}={','.join(map(str, values))}"


def _grid(steps: Sequence[int], block: int) -> tuple[tuple[str, str], ...]:
    """Samplers and the values of the parameter that is swept."""
    adaptive = (
        *((f"threshold:block_len={b}", _values("threshold", THRESHOLDS)) for b in (0, block)),
        *((f"entropy_bound:block_len={b}", _values("gamma", BOUNDS)) for b in (0, block)),
        ("factor:block_len=0", _values("factor", FACTORS)),
        ("prefix_threshold", _values("threshold", RUNS)),
    )
    quotas = ("confidence", "margin", "entropy", "left_to_right", "ancestral")
    return (*adaptive, *((rule, _values("steps", steps)) for rule in quotas))


@dataclasses.dataclass(frozen=True)
class Size:
    """One run of the whole chain.

    Attributes:
      backbone: its name among `lowering.backbones.BACKBONES`. config: of everything that has none
        of its own. fine_tuning, trajectory: the configurations of these.
      converter: module and arguments of the conversion, but for its output; published: the source
        on the hub, which `--data DIR` replaces by `DIR/weights`.
      tokenizer: hub id of the tokenizer where the weights come without one, which `--data DIR`
        replaces by `DIR/gpt2`; empty: it comes with the weights.
      augmented: whether fine-tuning is on augmented problems.
      data: the folder of problems where `--data` names none; None: the hub.
      dev, test: problems; test None: all. seeds: of training the backbone, and over each its actor.
      actor_steps: of the actors' episodes, one actor each.
      grid: samplers, and the values of a parameter, that are measured on the development split.
      changes, sft_changes, train_changes: keys of the configurations that differ, of all, of
        fine-tuning, and of both trainings.
      budgets: mean forward passes at which the table compares.
      downloads: bytes, of `weights`, `tokenizer`, `gsm8k` and `gsm8k_aug`; about.
    """

    name: str
    backbone: str
    config: str
    fine_tuning: str
    trajectory: str
    converter: tuple[str, ...]
    published: str
    tokenizer: str = ""
    augmented: bool = False
    data: Path | None = None
    dev: int = 500
    test: int | None = None
    seeds: int = 3
    actor_steps: tuple[int, ...] = (4, 10)
    grid: tuple[tuple[str, str], ...] = ()
    changes: Mapping[str, object] = dataclasses.field(default_factory=dict)
    sft_changes: Mapping[str, object] = dataclasses.field(default_factory=dict)
    train_changes: Mapping[str, object] = dataclasses.field(default_factory=dict)
    budgets: tuple[float, ...] = (4.0, 10.0)
    downloads: Mapping[str, int] = dataclasses.field(default_factory=dict)


SIZES = {
    size.name: size
    for size in (
        Size(
            name="owt",
            backbone="mdlm-owt",
            config="configs/gsm8k.py",
            fine_tuning="configs/gsm8k_aug.py",
            trajectory="configs/gsm8k_trajectory.py",
            converter=("reoac_jax.convert.mdlm_to_flax", "--verify"),
            published="kuleshov-group/mdlm-owt",
            tokenizer="gpt2",
            augmented=True,
            grid=_grid((4, 10, 16, 32, 64), 32),
            downloads={
                "weights": 679 * _MB,
                "tokenizer": 3 * _MB,
                "gsm8k": 3 * _MB,
                "gsm8k_aug": 100 * _MB,
            },
        ),
        Size(
            name="qwen3",
            backbone="qwen3",
            config="configs/gsm8k_qwen3.py",
            fine_tuning="configs/gsm8k_qwen3.py",
            trajectory="configs/gsm8k_trajectory.py:qwen3",
            converter=("reoac_jax.convert.to_flax", "--dtype", "stored", "--verify"),
            published="dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1",
            actor_steps=(32, 64),
            grid=_grid((32, 64, 128, 256), 32),
            budgets=(32.0, 64.0),
            downloads={"weights": 1_200 * _MB, "gsm8k": 3 * _MB},
        ),
        # Rows of the tests and the bundled backbone, in minutes: that everything works.
        Size(
            name="small",
            backbone="tiny_mdlm",
            config="configs/gsm8k.py",
            fine_tuning="configs/gsm8k.py",
            trajectory="configs/gsm8k_trajectory.py",
            converter=("reoac_jax.convert.mdlm_to_flax", "--verify"),
            published=str(ROOT / "data" / "tiny_mdlm"),
            data=ROOT / "tests" / "gsm8k_rows",
            dev=8,
            test=16,
            seeds=1,
            downloads={"gsm8k": 3 * _MB},  # with --data hub
            actor_steps=(3,),
            grid=(("threshold", "threshold=0.5,0.9"), ("confidence", "steps=3")),
            budgets=(3.0,),
            changes={
                "backbone.tokenizer_source": "auto",
                "backbone.compute_dtype": "float32",
                "rollout.gen_len": 24,
                # Of every question the last tokens: one length, so that little is compiled.
                "rollout.max_prompt_len": 24,
                "rollout.batch_size": 16,
                "evaluation.batch_size": 16,
            },
            sft_changes={
                "sft.steps": 60,
                "sft.warmup_steps": 5,
                "sft.batch_size": 16,
                "sft.accumulate": 1,
                "sft.learning_rate": 2e-3,
                "sft.ema_decay": 0.9,
                "sft.eval_every": 60,
                "sft.eval_problems": 8,
                "sft.eval_samples": 1,
                "sft.eval_steps": 3,
                "sft.checkpoint_every": 30,
            },
            train_changes={
                "rollout.max_steps": 3,
                "train.iterations": 2,
                "train.episodes_per_iter": 16,
                "train.episodes_per_prompt": 4,
                "train.buffer_size": 16,
                "train.head_batch": 16,
                "train.backbone_batch": 16,
                "train.backbone_steps": 2,
                "train.backbone_accumulate": 1,
            },
        ),
    )
}
