"""What the compiled rollout holds, and what stays outside its loop."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import jaxprs_in_params
from support import toy
from support.toy_rollout import compiled, world

from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.mdlm.model import Backbone
from reoac_jax.policy.heads import Heads

pytestmark = pytest.mark.as_used
ROWS, PROMPT, GEN_LEN = 32, 128, 64


def equations(jaxpr):
    """All equations of a jaxpr, those of its inner ones too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from equations(inner)


def loop_and_all(settings):
    """Equations of the loop over the steps, and of the whole rollout."""
    model, variables, modules, head_params = world(settings)
    program = functools.partial(compiled, model, modules, settings)
    arguments = variables, head_params, toy.prompts(8), toy.vocabulary()
    whole = list(equations(jax.make_jaxpr(program)(*arguments).jaxpr))
    (loop,) = [e for e in whole if e.primitive.name == "while" and len(e.outvars) > 20]
    return list(equations(loop.params["body_jaxpr"].jaxpr)), whole


def modulations(found):
    """Products with the matrix that makes a block's modulation of the conditioning."""
    shapes = [e.invars[1].aval.shape for e in found if e.primitive.name == "dot_general"]
    return shapes.count((8, 6 * 16))


@pytest.mark.slow
def test_constant_conditioning_is_computed_once():
    inside, whole = loop_and_all(toy.rollout_settings())
    assert (modulations(inside), modulations(whole)) == (0, 1)  # one block
    inside, _ = loop_and_all(toy.rollout_settings(time_conditioned=True))
    assert modulations(inside) == 1


@pytest.mark.slow
def test_no_random_number_for_each_entry_of_the_vocabulary():
    inside, _ = loop_and_all(toy.rollout_settings())
    drawn = [e.outvars[0].aval.shape for e in inside if e.primitive.name == "random_bits"]
    assert drawn and all(math.prod(shape[1:]) <= 2 * 8 for shape in drawn)


@pytest.fixture(scope="module")
def full_size():
    """The compiled rollout of 32 rows in float32, never run.

    By two blocks of the published backbone: twelve are compiled for a minute and hold no more.
    """
    config = BackboneConfig(n_blocks=2)
    model = Backbone(config)
    example = jnp.zeros((1, 4), jnp.int32), jnp.array([4], jnp.int32)
    params = jax.eval_shape(model.init, jax.random.key(0), *example)["params"]
    settings = toy.rollout_settings(
        max_steps=32, gen_len=GEN_LEN, mask_id=config.mask_id, branch=True, branch_k=3,
        branch_steps=(4, 8, 12),
    )  # fmt: skip
    heads = Heads.create((256, 256), (256, 256), config.hidden_dim, True, False, False, 5)
    head_params = jax.eval_shape(heads.init, jax.random.key(0))

    def of_size(x, size):
        return jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)

    vocabulary = jax.tree.map(lambda x: of_size(x, config.vocab_size), toy.vocabulary())
    prompts = jax.eval_shape(lambda: toy.prompts(ROWS, width=PROMPT))
    return compiled.lower(
        model, heads, settings, {"params": params}, head_params, prompts, vocabulary
    ).compile()


@pytest.mark.slow
def test_memory_of_a_full_size_rollout(full_size):
    """Beside the weights, which are not copied, it needs less than all logits would."""
    memory = full_size.memory_analysis()
    assert memory.argument_size_in_bytes > 371e6
    all_logits = 4 * ROWS * GEN_LEN * BackboneConfig().vocab_size
    assert 0 < memory.temp_size_in_bytes < all_logits
    assert memory.output_size_in_bytes < 10e6


@pytest.mark.slow
def test_no_array_of_all_logits_exists(full_size):
    sizes = {
        math.prod(int(n) for n in shape.split(","))
        for shape in re.findall(r"\w\d+\[([\d,]+)\]", full_size.as_text())
    }
    vocabulary, width = BackboneConfig().vocab_size, BackboneConfig().hidden_dim
    assert max(sizes) == vocabulary * width  # the largest array is a weight
    assert max(sizes) < ROWS * GEN_LEN * vocabulary
