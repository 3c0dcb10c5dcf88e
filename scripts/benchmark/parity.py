"""The device's numbers beside float32 on the CPU: log-probabilities, and their gradients."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.inputs import Inputs, make_inputs
from benchmark.workload import Workload
from reoac_jax.backbone import Backbone
from reoac_jax.backbone.attention import Implementation, choose_implementation
from reoac_jax.backbone.likelihood import reference_log_probs
from reoac_jax.backbone.prediction import assemble_rows

_ROWS = 4
# Bounds on the largest difference of a log-probability, nats, and on 1 - cosine of the gradient:
# float32 sums in another order; bfloat16 keeps 8 bits, through every block.
BOUNDS = {"float32": (1e-2, 1e-4), "bfloat16": (0.5, 2e-2)}


@dataclasses.dataclass(frozen=True)
class Difference:
    """From float32 on the CPU. log_prob: largest and mean absolute difference, nats.

    gradient: 1 - cosine of the gradients of the mean log-probability, of all parameters together.
    within: both are inside `BOUNDS`.
    """

    dtype: str
    attention: str
    largest_log_prob: float
    mean_log_prob: float
    gradient: float
    within: bool


def compare(workload: Workload) -> list[Difference]:
    """The default device in each dtype, float32 products there in full precision."""
    workload = dataclasses.replace(workload, rows=_ROWS, update_rows=_ROWS)
    inputs = make_inputs(workload)
    with jax.default_device(jax.devices("cpu")[0]):
        wanted, gradient = _run(workload, inputs, "float32", "xla")
    found = []
    for dtype, (most_nats, most_angle) in BOUNDS.items():
        kernel = choose_implementation("auto", jnp.dtype(dtype), workload.config.head_dim)
        with jax.default_matmul_precision("highest" if dtype == "float32" else "default"):
            log_probs, own = _run(workload, inputs, dtype, kernel)
        nats, angle = np.abs(log_probs - wanted), 1.0 - _cosine(own, gradient)
        within = bool(nats.max() <= most_nats and angle <= most_angle)
        found.append(
            Difference(dtype, kernel, float(nats.max()), float(nats.mean()), angle, within)
        )
    return found


def _run(
    workload: Workload, inputs: Inputs, dtype: str, kernel: Implementation
) -> tuple[np.ndarray, Any]:
    """Log-probabilities float32 `[B, G]` of the references, and the gradient of their mean."""
    model = Backbone(workload.config, dtype=jnp.dtype(dtype), attention=kernel)
    rows, lengths = assemble_rows(inputs.prompt, inputs.lengths, inputs.generated, 0)

    @jax.jit
    def run(params: Any) -> tuple[Any, jax.Array]:
        def mean(params: Any) -> tuple[jax.Array, jax.Array]:
            variables = {"params": params}
            log_probs = reference_log_probs(model, variables, rows, lengths, inputs.reference)
            return log_probs.mean(), log_probs

        return jax.grad(mean, has_aux=True)(params)

    gradient, log_probs = jax.device_get(run(jax.tree.map(jnp.asarray, inputs.params)))
    return log_probs, gradient


def _cosine(a: Any, b: Any) -> float:
    """Of two pytrees as one vector each."""
    pairs = list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    def dot(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.vdot(x.astype(np.float64), y.astype(np.float64)))

    together = sum(dot(x, y) for x, y in pairs)
    return together / (sum(dot(x, x) for x, _ in pairs) * sum(dot(y, y) for _, y in pairs)) ** 0.5
