"""The keys of an evaluation; how it draws tokens and operators stands with the rollout's."""

from collections.abc import Mapping

from reoac_jax.config.schema import Option

OPTIONS: Mapping[str, Option] = {
    "evaluation.batch_size": Option(
        "int", "rows denoised together, per device", 32, low=1, high=65536
    ),
}
