"""Layers in NumPy, float64, one row `[G, W]` at a time: what Flax modules are compared with."""

import jax
import numpy as np


class PlainLayers:
    """The layers of a Flax module, by the names of its parameters."""

    def __init__(self, params):
        self.params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def dense(self, name, x):
        own = self.params[name]
        return x @ own["kernel"] + own["bias"]

    def norm(self, name, x):
        own = self.params[name]
        centred = x - x.mean(axis=-1, keepdims=True)
        return centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6) * own["scale"] + own["bias"]

    def attention(self, name, x, heads):
        """Every position sees every other."""
        own = PlainLayers(self.params[name])
        parts = np.split(own.dense("Dense_0", x), 3, axis=-1)
        size, mixed = x.shape[1] // heads, []
        for start in range(0, x.shape[1], size):
            q, k, v = (part[:, start : start + size] for part in parts)
            weights = np.exp(q @ k.T / np.sqrt(size))
            mixed.append(weights / weights.sum(axis=1, keepdims=True) @ v)
        return own.dense("Dense_1", np.concatenate(mixed, axis=1))

    def mlp(self, first, second, x):
        inner = self.dense(first, x)
        return self.dense(second, inner / (1 + np.exp(-inner)))
