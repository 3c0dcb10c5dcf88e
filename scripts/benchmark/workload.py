"""The sizes that are timed, random inputs for them, and the arithmetic they cannot do without."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from reoac_jax.backbone.mdlm.config import BackboneConfig

# Tokens of GSM8K's training prompts (GPT-2's tokenizer): percentile to length.
_GSM8K = {0: 14, 5: 29, 25: 40, 50: 51, 75: 66, 95: 95, 99: 121, 100: 213}


@dataclasses.dataclass(frozen=True)
class Workload:
    """config: the backbone's sizes. rows: of a rollout or forward pass. update_rows: of an update.

    gen_len: G. steps: T of the rollout; the time of a step does not depend on it.
    """

    config: BackboneConfig
    rows: int
    update_rows: int
    gen_len: int
    steps: int
    prompt_percentiles: tuple[tuple[int, int], ...]

    def prompt_lengths(self, rows: int) -> np.ndarray:
        """int32 `[rows]`, random and the same every time."""
        percentile, length = zip(*self.prompt_percentiles, strict=True)
        drawn = np.random.default_rng(0).uniform(0, 100, rows)
        return np.interp(drawn, percentile, length).round().astype(np.int32)


WORKLOADS = {
    "tiny": Workload(BackboneConfig(1200, 128, 128, 32, 3, 4), 384, 192, 20, 7, ((0, 6), (100, 6))),
    "owt": Workload(BackboneConfig(), 16, 16, 64, 8, tuple(_GSM8K.items())),
}


def trunk_parameters(config: BackboneConfig) -> int:
    """Weights of the matrices that every token is multiplied with."""
    return 12 * config.hidden_dim**2 * config.n_blocks


def head_parameters(config: BackboneConfig) -> int:
    return config.hidden_dim * config.vocab_size


def forward_operations(
    config: BackboneConfig, row_lengths: Sequence[int], head_positions: int
) -> float:
    """Floating-point operations of one forward pass over rows of these real lengths.

    A multiplication and an addition for each weight and token, and attention's two products.

    Args:
      head_positions: positions of a row whose logits are needed.
    """
    lengths = np.asarray(row_lengths, np.float64)
    attention = 4 * config.hidden_dim * config.n_blocks * np.square(lengths).sum()
    head = 2 * head_parameters(config) * head_positions * len(lengths)
    return float(2 * trunk_parameters(config) * lengths.sum() + attention + head)


def weight_bytes(config: BackboneConfig, itemsize: int) -> int:
    """What one forward pass must read of the matrices."""
    return (trunk_parameters(config) + head_parameters(config)) * itemsize
