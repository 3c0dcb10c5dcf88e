"""The keys of supervised fine-tuning (`python -m reoac_jax.sft`)."""

from collections.abc import Mapping
from typing import Any

from reoac_jax.config.schema import Option
from reoac_jax.system.errors import InputError


def _steps(doc: str, default: int, low: int = 1) -> Option:
    return Option("int", doc, default, low=low, high=10**8)


OPTIONS: Mapping[str, Option] = {
    "sft.mode": Option("str", "what of the backbone is trained", "full", choices=("lora", "full")),
    "sft.steps": _steps("gradient steps", 5000),
    "sft.epochs": Option(
        "float",
        "passes over the training problems, in place of sft.steps; 0: sft.steps counts",
        0.0,
        low=0.0,
        high=1e6,
        before=0.0,
    ),
    "sft.batch_size": Option(
        "int", "examples a gradient step, on all devices together", 128, low=1, high=10**6
    ),
    "sft.accumulate": Option(
        "int", "microbatches that a gradient step is made of", 8, low=1, high=10**4
    ),
    "sft.learning_rate": Option("float", "of AdamW, at its highest", 3e-5, low=0.0, high=1.0),
    "sft.warmup_steps": _steps("steps of the rate's linear rise, then cosine decay", 200, low=0),
    "sft.warmup_share": Option(
        "float",
        "share of the steps that is warm-up, in place of sft.warmup_steps; 0: that counts",
        0.0,
        low=0.0,
        high=0.99,
        before=0.0,
    ),
    "sft.final_rate": Option(
        "float", "share of learning_rate left at the end", 0.1, low=0.0, high=1.0
    ),
    "sft.weight_decay": Option("float", "of AdamW, on matrices", 0.01, low=0.0, high=10.0),
    "sft.beta2": Option("float", "of AdamW, whose beta1 is 0.9", 0.999, low=0.5, high=0.99999),
    "sft.gradient_clip": Option(
        "float", "bound on the global norm; 0: none", 1.0, low=0.0, high=1e4
    ),
    "sft.ema_decay": Option(
        "float",
        "of the average of the weights that is evaluated and kept; warmed up, (1+n)/(10+n)",
        0.9999,
        low=0.0,
        high=0.999999,
    ),
    "sft.eos_weight": Option(
        "float",
        "weight of the eos padding behind an answer's own eos, which weighs 1",
        0.1,
        low=0.0,
        high=1.0,
    ),
    "sft.short_share": Option(
        "float",
        "share of examples whose row ends with the answer's own eos, without padding",
        0.2,
        low=0.0,
        high=1.0,
    ),
    "sft.log_every": _steps("steps between lines of metrics.jsonl", 10),
    "sft.eval_every": _steps("steps between evaluations (NELBO, accuracy on test problems)", 500),
    "sft.eval_problems": Option(
        "int", "test problems of an evaluation, the first of the split", 256, low=1, high=10**7
    ),
    "sft.eval_samples": Option(
        "int", "noise levels for each row of a NELBO estimate", 4, low=1, high=10**4
    ),
    "sft.eval_steps": Option(
        "int",
        "steps of the confidence decoding that the accuracy is measured with",
        64,
        low=1,
        high=4096,
    ),
    "sft.checkpoint_every": _steps("steps between saves", 250),
}


def check(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where the batch or the warm-up does not fit."""
    if values["sft.batch_size"] % values["sft.accumulate"]:
        raise InputError(
            f"sft.batch_size is {values['sft.batch_size']};"
            f" expected a multiple of sft.accumulate, {values['sft.accumulate']}"
        )
    # With epochs the steps are known when the problems are (`FinetuneSettings.from_config`).
    told = not values["sft.epochs"] and not values["sft.warmup_share"]
    if told and values["sft.warmup_steps"] >= values["sft.steps"]:
        raise InputError(
            f"sft.warmup_steps is {values['sft.warmup_steps']};"
            f" expected less than sft.steps, {values['sft.steps']}"
        )
