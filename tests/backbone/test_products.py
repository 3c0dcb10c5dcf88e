"""The matrix product and its gradients: their values, and the dtype they are multiplied in."""

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from reoac_jax.backbone.products import CPU, PLAIN, matmul, products

pytestmark = pytest.mark.as_used


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape, dtype=np.float32))  # noqa: E731
    return draw(2, 5, 16), draw(16, 24), draw(2, 5, 24)


def products_of(function, *arguments):
    """Operand and result dtypes of every matrix product that the traced function holds."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "dot_general":
                operands = {str(v.aval.dtype) for v in equation.invars}
                yield operands, str(equation.outvars[0].aval.dtype)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from walk(inner)

    return list(walk(jax.make_jaxpr(function)(*arguments).jaxpr))


def gradients(dtype, x, kernel, cotangent):
    y, pullback = jax.vjp(lambda x, kernel: matmul(x, kernel, dtype), x, kernel)
    return y, *pullback(cotangent)


def test_float32_is_the_plain_product_and_its_gradients(arrays):
    x, kernel, cotangent = (np.asarray(a, np.float64) for a in arrays)
    y, of_x, of_kernel = gradients(jnp.dtype("float32"), *arrays)
    np.testing.assert_allclose(y, x @ kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_x, cotangent @ kernel.T, rtol=1e-4, atol=1e-5)
    expected = np.einsum("abk,abn->kn", x, cotangent)
    np.testing.assert_allclose(of_kernel, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_rounds_the_operands_and_nothing_else(arrays):
    """Against the same products of rounded operands in float64."""
    rounded = [np.asarray(a.astype(jnp.bfloat16), np.float64) for a in arrays]
    x, kernel, cotangent = rounded
    y, of_x, of_kernel = jax.jit(gradients, static_argnums=0)(jnp.dtype("bfloat16"), *arrays)
    np.testing.assert_allclose(y, x @ kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_x, cotangent @ kernel.T, rtol=1e-4, atol=1e-5)
    expected = np.einsum("abk,abn->kn", x, cotangent)
    np.testing.assert_allclose(of_kernel, expected, rtol=1e-4, atol=1e-5)
    assert {str(a.dtype) for a in (y, of_x, of_kernel)} == {"float32"}


def test_all_three_products_have_operands_in_the_compute_dtype(arrays):
    found = products_of(lambda *a: gradients(jnp.dtype("bfloat16"), *a), *arrays)
    assert found == [({"bfloat16"}, "float32")] * 3


def test_a_bfloat16_input_gets_a_bfloat16_gradient(arrays):
    x, kernel, cotangent = arrays
    _, of_x, _ = gradients(jnp.dtype("bfloat16"), x.astype(jnp.bfloat16), kernel, cotangent)
    assert of_x.dtype == jnp.bfloat16 and of_x.shape == x.shape


def test_the_cpus_products_are_chosen_on_the_cpu_and_plain_ones_elsewhere(monkeypatch):
    assert products() is CPU
    products.cache_clear()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    try:
        assert products() is PLAIN
    finally:
        products.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-5), (jnp.bfloat16, 0.03)])
def test_the_plain_products_compute_the_same(dtype, tolerance):
    """What a GPU runs, run here: the same up to rounding."""
    rng = np.random.default_rng(0)
    lengths = jnp.asarray([9, 1, 5], jnp.int32)
    operands = jnp.asarray(rng.standard_normal((3, 3, 9, 2, 8)), dtype)
    got, want = (kind.attention(*operands, lengths) for kind in (PLAIN, CPU))
    real = np.arange(9) < np.asarray(lengths)[:, None]
    assert got.dtype == want.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(got, np.float32)[real], np.asarray(want, np.float32)[real], atol=tolerance
    )
    kernel = jnp.asarray(rng.standard_normal((5, 3)), dtype)
    np.testing.assert_array_equal(PLAIN.transposed(kernel), CPU.transposed(kernel))
