"""Arithmetic of a program, counted in its jaxpr."""

import math
from typing import Any

import jax
from jax.interpreters.partial_eval import dce_jaxpr


def matmul_flop(jaxpr: Any) -> int:
    """Multiplications and additions of a jaxpr's matrix products, those in loops each time.

    What no result needs is left out, as XLA leaves it out: the gradient rule of a product writes
    down that of its weights even where they are not trained.
    """
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    needed, _ = dce_jaxpr(inner, [True] * len(inner.outvars), instantiate=True)
    return _counted(needed)


def _counted(jaxpr: Any) -> int:
    total = 0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        if equation.primitive.name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = math.prod(left[axis] for axis in contracted)
            total += 2 * inner * math.prod(equation.outvars[0].aval.shape)
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                total += times * _counted(value)
    return total


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
