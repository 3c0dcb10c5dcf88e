"""The arithmetic that scripts count: loops each time, and nothing that no result needs."""

import jax
import jax.numpy as jnp

from scripts.counting import matmul_flop

ONE = 2 * 3 * 4 * 5  # of a product [3, 4] by [4, 5]


def counted(function):
    return matmul_flop(jax.make_jaxpr(function)(jnp.ones((3, 4)), jnp.ones((4, 5))))


def test_products_in_loops_count_each_time():
    def looped(x, w):
        return jax.lax.scan(lambda total, _: (total + x @ w, None), jnp.zeros((3, 5)), length=7)[0]

    assert counted(jnp.matmul) == ONE and counted(jax.jit(looped)) == 7 * ONE


def test_products_that_no_result_needs_do_not_count():
    def with_one_too_many(x, w):
        return x @ w, (2 * x) @ w

    assert counted(with_one_too_many) == 2 * ONE
    assert counted(lambda x, w: jax.jit(with_one_too_many)(x, w)[0]) == ONE
