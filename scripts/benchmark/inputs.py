"""Host arrays of a random backbone and random rows, for our programs and for the reference's."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmark.workload import Workload
from reoac_jax.backbone import Backbone
from reoac_jax.backbone.prediction import prompt_width


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Host arrays that ours and the reference work on alike.

    params: the backbone's. prompt: int32 `[N, P]`. lengths: int32 `[N]`. generated: int32 `[N, G]`,
    half of it masked. reference: int32 `[N, G]`.
    """

    params: Any
    prompt: np.ndarray
    lengths: np.ndarray
    generated: np.ndarray
    reference: np.ndarray


def make_inputs(workload: Workload) -> Inputs:
    config = workload.config
    model = Backbone(config)
    example = jnp.zeros((1, 4), jnp.int32), jnp.array([4], jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *example)["params"]
    rng = np.random.default_rng(0)

    def draw(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        """Norms near 1, everything else small enough to keep activations of order one."""
        value = 0.02 * rng.standard_normal(shape.shape, dtype=np.float32)
        return 1 + value if path[-1].key == "scale" else value

    rows = max(workload.rows, workload.update_rows)
    lengths = workload.prompt_lengths(rows)
    width = prompt_width(int(lengths.max()))
    prompt = rng.integers(0, config.mask_id, (rows, width)).astype(np.int32)
    prompt[np.arange(width) >= lengths[:, None]] = 0
    reference = rng.integers(0, config.mask_id, (rows, workload.gen_len)).astype(np.int32)
    masked = rng.random(reference.shape) < 0.5
    generated = np.where(masked, config.mask_id, reference)
    params = jax.tree_util.tree_map_with_path(draw, shapes)
    return Inputs(params, prompt, lengths, generated, reference)
