"""What the stages cost: operations counted in the programs' jaxprs, bytes reckoned from sizes.

Counted are the matrix products, at rows' full length and the most passes that a row may take, so
that a run needs fewer. Hours are these operations at an assumed share of a card's peak.
"""

import dataclasses
import functools
import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from counting import matmul_flop
from lowering.backbones import BACKBONES, abstract_parts
from ml_collections import FrozenConfigDict
from sweep_samplers import swept

from gsm8k_stages.sizes import ROOT, Size
from gsm8k_stages.stages import CHOSEN, Stage
from reoac_jax.backbone.likelihood import reference_log_probs
from reoac_jax.backbone.products import PLAIN
from reoac_jax.config import load_config
from reoac_jax.finetuning.step import FinetuneSettings
from reoac_jax.learning.parts import Parts
from reoac_jax.learning.trainable import Trainable, trainable
from reoac_jax.rollout import RolloutSettings

SHARE = 0.4  # of a card's peak: assumed, the target of scripts/gpu_check.sh
AUGMENTED, TRAINING, TEST = 385_000, 7_473, 1_319  # problems
# Of a block's activations kept for the gradient, bytes for each token and unit of width, in 16 bits
# and without attention's scores (Korthikanti et al. 2022, arXiv 2205.05198, section 4.1).
_KEPT = 34


@dataclasses.dataclass(frozen=True)
class Card:
    """A GPU as its maker's data sheet has it: dense bfloat16 operations a second, and bytes."""

    name: str
    peak: float
    memory: float


CARDS = {
    "h100": Card("NVIDIA H100 SXM", 989e12, 80e9),
    "h200": Card("NVIDIA H200", 989e12, 141e9),
    "a100": Card("NVIDIA A100 80GB", 312e12, 80e9),
    "l40s": Card("NVIDIA L40S", 362e12, 48e9),
    "4090": Card("NVIDIA GeForce RTX 4090", 165e12, 24e9),
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """download: bytes. operations: of matrix products, at most. memory: bytes on the card."""

    download: float = 0.0
    operations: float = 0.0
    memory: float = 0.0


def found_card() -> str | None:
    """The key of the card in this machine; None: there is none that is known."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        ).stdout.lower()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return next((key for key in CARDS if key in listed), None)


class Counted:
    """Costs of the stages of one size. Nothing is compiled or run, and no weight exists."""

    def __init__(self, size: Size):
        self._size = size
        self._known: dict[tuple, int] = {}
        self._rules: Mapping[str, Callable[[Stage, FrozenConfigDict], Cost]] = {
            "reoac_jax.sft": self._fine_tuning,
            "reoac_jax.train": self._training,
            "reoac_jax.evaluate": self._evaluation,
            "sweep_samplers": self._sweep,
        }

    def cost(self, stage: Stage) -> Cost:
        """Raises `InputError` where the configuration is not legal."""
        download = sum(self._size.downloads.get(name, 0) for name in stage.downloads)
        rule = self._rules.get(stage.module)
        if rule is None or stage.config is None:
            return Cost(download)
        file, overrides = stage.config
        cost = rule(stage, load_config(ROOT / file, overrides))
        return dataclasses.replace(cost, download=download)

    def _fine_tuning(self, stage: Stage, config: FrozenConfigDict) -> Cost:
        sft, problems = config.sft, AUGMENTED if self._size.augmented else TRAINING
        kind = trainable(sft.mode, config)
        settings = FinetuneSettings.from_config(config, problems)
        operations = settings.steps * sft.batch_size * self._update(config, kind)
        rows = sft.batch_size // sft.accumulate
        return Cost(operations=operations, memory=self._memory(config, kind, rows, average=True))

    def _training(self, stage: Stage, config: FrozenConfigDict) -> Cost:
        train, kind = config.train, trainable(config.backbone.finetune_mode, config)
        passes = train.episodes_per_iter * config.rollout.max_steps
        operations = passes * self._forward(config)
        rows = 0
        if kind.item is not None:
            update = self._update(config, kind)
            operations += train.backbone_steps * train.backbone_batch * update
            rows = train.backbone_batch // train.backbone_accumulate
        return Cost(
            operations=train.iterations * operations,
            memory=self._memory(config, kind, rows, average=False),
        )

    def _evaluation(self, stage: Stage, config: FrozenConfigDict) -> Cost:
        operations = self._size.test or TEST
        operations *= config.rollout.max_steps * self._forward(config)
        return Cost(operations=operations, memory=self._inference_memory(config))

    def _sweep(self, stage: Stage, config: FrozenConfigDict) -> Cost:
        """Of those that the development split chooses, half of all is taken to be chosen."""
        settings = RolloutSettings.from_config(
            config, mask_id=0, pad_id=0, time_conditioned=False, evaluation=True
        )
        steps = sum(
            sampler.row_steps(settings)
            for policy, sweep in self._size.grid
            for sampler in swept(policy, sweep)
        )
        problems = self._size.dev
        if CHOSEN in stage.arguments:
            steps, problems = steps / 2, self._size.test or TEST
        operations = steps * problems * self._forward(config)
        return Cost(operations=operations, memory=self._inference_memory(config))

    # ---- Counting

    def _forward(self, config: FrozenConfigDict) -> int:
        """Operations of one row's forward pass, its logits included."""

        def count() -> int:
            parts = _parts(self._size, config)

            def forward(params: Any, *row: Any) -> Any:
                return _log_probs(parts, {"params": params}, row)

            return _counted(forward, parts.base, *_row(config))

        return self._once(("forward", *_shape(config)), count)

    def _update(self, config: FrozenConfigDict, kind: Trainable) -> int:
        """Operations of one row's gradient."""

        def count() -> int:
            parts = _parts(self._size, config)
            model = parts.training_model(config)
            weights = _trained(parts, kind)

            def gradient(weights: Any, base: Any, *row: Any) -> Any:
                def loss(weights: Any) -> Any:
                    variables = kind.variables(base, weights)
                    return _log_probs(parts, variables, row, model).sum()

                return jax.value_and_grad(loss)(weights)

            return _counted(gradient, weights, parts.base, *_row(config))

        return self._once((kind, config.backbone.remat, *_shape(config)), count)

    def _once(self, key: tuple, count: Callable[[], int]) -> int:
        """Tracing takes seconds, and stages have programs in common."""
        if key not in self._known:
            self._known[key] = count()
        return self._known[key]

    # ---- Memory

    def _memory(
        self, config: FrozenConfigDict, kind: Trainable, rows: int, *, average: bool
    ) -> float:
        """Weights, what is trained with gradient, Adam's moments and average, activations."""
        parts, sizes = _parts(self._size, config), BACKBONES[self._size.backbone]
        held = self._inference_memory(config)
        if kind.item is None:
            return held
        weights = _trained(parts, kind)
        trained = sum(math.prod(x.shape) for x in jax.tree.leaves(weights))
        copies = 4 + average  # itself, the gradient, two moments
        spec, tokens = sizes.spec, rows * _width(config)
        kept = _KEPT if config.backbone.remat != "blocks" else 2
        blocks = spec.n_blocks * kept + _KEPT * (config.backbone.remat == "blocks")
        return held + 4.0 * copies * trained + float(tokens * spec.hidden_dim * blocks)

    def _inference_memory(self, config: FrozenConfigDict) -> float:
        """Weights, their copy in the computing dtype, and the logits that exist at a time."""
        leaves = jax.tree.leaves(_parts(self._size, config).base)
        numbers = sum(math.prod(x.shape) for x in leaves)
        stored = sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
        computing = 0 if stored == 2 * numbers else 2 * numbers
        return float(stored + computing + 4 * PLAIN.logits_at_a_time)


def _parts(size: Size, config: FrozenConfigDict) -> Parts:
    return abstract_parts(config, BACKBONES[size.backbone])


def _width(config: FrozenConfigDict) -> int:
    return config.rollout.max_prompt_len + config.rollout.gen_len


def _row(config: FrozenConfigDict) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes of one row at full length: tokens, length, reference, first generated position."""
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=np.int32)
    return shape((1, _width(config))), shape((1,)), shape((1, config.rollout.gen_len)), shape((1,))


def _shape(config: FrozenConfigDict) -> tuple[int, int]:
    return config.rollout.max_prompt_len, config.rollout.gen_len


def _trained(parts: Parts, kind: Trainable) -> Any:
    """Shapes of what is trained."""
    return jax.eval_shape(
        lambda key, base: kind.init(key, base, parts.model.lora_targets, None),
        jax.random.key(0), parts.base,
    )  # fmt: skip


def _log_probs(parts: Parts, variables: Any, row: Sequence[Any], model: Any = None) -> Any:
    """model: with what training changes of it; None: as it is."""
    tokens, length, reference, first = row
    return reference_log_probs(
        model or parts.model, variables, tokens, length, reference, jnp.ones(1), first=first
    )


def _counted(function: Callable[..., Any], *shapes: Any) -> int:
    return matmul_flop(jax.make_jaxpr(function)(*shapes))
