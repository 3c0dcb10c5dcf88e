"""Several devices: the same numbers as one, and nothing that the devices must tell each other."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy

from reoac_jax.devices import sharding
from reoac_jax.rollout import Request, RolloutProgram, in_order
from scripts.collectives import collectives

ROOT = Path(__file__).resolve().parents[2]
# What places an array on a mesh, or speaks to its other devices by the axis's name.
PLACING = re.compile(
    r"PartitionSpec|NamedSharding|AxisType|shard_map|axis_name|axis_index|psum|pmean|pmap"
    r"|jax\.make_mesh|Mesh\(|with_sharding_constraint"
)
COUNTS = (1, 2, 4)
BATCH_SIZES = {1: 4, 4: 2}  # rows a device: a row's place among its neighbours changes too


@pytest.fixture(autouse=True)
def four_devices():
    if jax.device_count() < 4:
        pytest.skip("needs four devices")


def mesh_of(count):
    return sharding.make_mesh(jax.devices()[:count])


def questions(count=10):
    """Prompts of several lengths."""
    made = []
    for row in range(count):
        rng = np.random.default_rng(row)
        length = int(rng.integers(1, 9))
        tokens = rng.integers(2, len(toy.WORDS), length).astype(np.int32)
        made.append(Request(tokens, rng.random(length) < 0.4, row_id=100 + row))
    return made


@functools.cache
def world():
    settings = toy.rollout_settings(max_steps=4, branch=True, branch_steps=(1,))
    model, params = toy.backbone(3, blocks=1)
    return settings, model, params, *toy.heads(settings, 4)


@functools.cache
def program(count):
    settings, model, _, modules, _ = world()
    vocabulary = toy.vocabulary()
    size = BATCH_SIZES[count]
    return RolloutProgram(model, modules, vocabulary, settings, mesh_of(count), size)


@functools.cache
def rolled_out(count):
    """The rollouts of all questions, in their order."""
    _, _, params, _, head_params = world()
    batches = list(program(count)(params, head_params, jax.random.key(5), questions()))
    assert sorted(place for places, _ in batches for place in places) == list(range(10))
    return in_order(batches)


@pytest.mark.slow
def test_rollouts_do_not_depend_on_the_number_of_devices():
    """10 questions in batches of 4 and 8: each leaves room in the last batch."""
    one, several = rolled_out(1), rolled_out(4)
    np.testing.assert_array_equal(several.tokens, one.tokens)
    active = one.steps.active
    np.testing.assert_array_equal(several.steps.active, active)
    assert active.any(axis=1).all()
    for name, values in one.steps._asdict().items():
        pairs = jax.tree.leaves(getattr(several.steps, name)), jax.tree.leaves(values)
        for x, y in zip(*pairs, strict=True):
            np.testing.assert_allclose(x[active], y[active], atol=1e-5, err_msg=name)


def held(tree):
    """Bytes of the first device's part of each array."""
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


@functools.cache
def program_in_parts():
    settings, model, _, modules, _ = world()
    settings = dataclasses.replace(settings, weights_in_parts=True)
    return RolloutProgram(model, modules, toy.vocabulary(), settings, mesh_of(4), BATCH_SIZES[4])


def in_parts():
    _, _, params, _, head_params = world()
    split = sharding.split_parameters(mesh_of(4), params)
    assert held(split) < 0.3 * held(params)
    return split, head_params


@pytest.mark.slow
def test_rollouts_with_weights_in_parts():
    """Rows of look-aheads and rows that are done early, on devices that must keep step."""
    one = jax.tree.map(lambda x: x[:8], rolled_out(1))
    several = in_order(program_in_parts()(*in_parts(), jax.random.key(5), questions(8)))
    assert len(set(one.steps.active.sum(axis=1))) > 1
    np.testing.assert_array_equal(several.tokens, one.tokens)
    np.testing.assert_array_equal(several.steps.active, one.steps.active)
    np.testing.assert_array_equal(several.steps.forward_passes, one.steps.forward_passes)


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_as_used")
def test_a_compiled_rollout_gathers_parts_and_agrees():
    """What is held for the loop are the parts: each gathers inside it, anew for every pass."""
    built, (split, head_params) = program_in_parts(), in_parts()
    group, *_ = built._groups(questions(4))
    batch = sharding.split(mesh_of(4), built._batch(group, questions(4)))
    arguments = split, head_params, built._vocabulary, jax.random.key(0), batch
    lowered = built._run(group.slots).lower(*arguments)
    kinds = {c.kind for c in collectives(lowered.compile().as_text())}
    assert kinds == {"all-gather", "all-reduce"}
    # Before XLA moves anything: a barrier ties the parts to the turn.
    loop = lowered.as_text().partition("stablehlo.while")[2]
    assert loop.count("all_gather") > 0 and "optimization_barrier" in loop


def test_one_file_knows_the_mesh():
    files = [p for room in ("reoac_jax", "convert", "scripts") for p in (ROOT / room).rglob("*.py")]
    placing = [path.name for path in files if PLACING.search(path.read_text())]
    assert placing == ["sharding.py"]
    assert not [path.name for path in files if re.search(r"['\"]data['\"]", path.read_text())
                and "mesh" in path.read_text() and path.name != "sharding.py"]  # fmt: skip


@pytest.mark.slow
def test_rollouts_differ_between_questions():
    """What makes the comparison above say something."""
    result = rolled_out(1)
    assert len(np.unique(result.tokens, axis=0)) > 5
    assert len(np.unique(result.steps.operator[result.steps.active])) > 2


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_as_used")
def test_the_compiled_rollout_holds_no_collective():
    _, _, params, _, head_params = world()
    built = program(4)
    group, *_ = built._groups(questions(4))
    batch = sharding.split(mesh_of(4), built._batch(group, questions(4)))
    arguments = params, head_params, built._vocabulary, jax.random.key(0), batch
    text = built._run(group.slots).lower(*arguments).compile().as_text()
    assert "num_partitions=4" in text and "while" in text
    assert not collectives(text)


def test_the_search_finds_a_collective():
    x = sharding.split(mesh_of(4), np.ones((8, 3), np.float32))
    text = jax.jit(lambda x: x.sum()).lower(x).compile().as_text()
    assert [c.kind for c in collectives(text)] == ["all-reduce"]


@pytest.mark.parametrize("count", COUNTS)
def test_per_device_equals_a_plain_call(count):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 3)).astype(np.float32)
    x = rng.standard_normal((8, 5)).astype(np.float32)
    ids = np.arange(8)

    def function(weight, shift, x, ids):
        y = x @ weight + shift
        return {"rows": y, "pairs": jnp.stack([y, 2 * y], axis=1), "ids": (ids, ids + 1)}

    mesh = mesh_of(count)
    run = jax.jit(sharding.per_device(mesh, function, replicated=2))
    whole = sharding.replicate(mesh, (weight, np.float32(0.5)))
    got = run(*whole, *sharding.split(mesh, (x, ids)))
    expected = function(weight, np.float32(0.5), x, ids)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, expected)
    assert len(got["rows"].sharding.device_set) == count


def test_each_device_works_on_its_own_share():
    mesh = mesh_of(4)
    run = sharding.per_device(mesh, lambda x: x + jax.lax.axis_index("data"), replicated=0)
    got = jax.jit(run)(sharding.split(mesh, np.zeros(8, np.int32)))
    np.testing.assert_array_equal(got, [0, 0, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize("count", COUNTS)
def test_padded_size_and_pad_batch(count):
    mesh = mesh_of(count)
    assert mesh.size == count
    for size in range(1, 13):
        padded = sharding.padded_size(mesh, size)
        assert padded % count == 0 and size <= padded < size + count
        batch = {"a": np.arange(size) + 7, "b": np.arange(3 * size).reshape(size, 3)}
        wide = sharding.pad_batch(batch, padded)
        for name, x in batch.items():
            np.testing.assert_array_equal(wide[name][:size], x)
            assert (wide[name][size:] == x[0]).all() and len(wide[name]) == padded
            assert wide[name].dtype == x.dtype


def test_parameters_in_parts():
    """The longest axis that the devices divide is cut; what has none is whole everywhere."""
    mesh = mesh_of(4)
    tree = {"a": np.ones((8, 12)), "b": np.ones(6), "c": np.ones((3, 4, 2)), "d": np.ones(())}
    placed = sharding.split_parameters(mesh, tree)
    parts = {name: x.addressable_shards[0].data.shape for name, x in placed.items()}
    assert parts == {"a": (8, 3), "b": (6,), "c": (3, 1, 2), "d": ()}
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), placed)
    for name, x in sharding.split_parameters(mesh, shapes).items():
        assert x.sharding == placed[name].sharding

    @jax.jit
    def gradient(tree):
        loss = lambda t: jnp.square(sharding.gather_parameters(mesh, t)["a"]).sum()  # noqa: E731
        return sharding.keep_split(mesh, jax.grad(loss)(tree))

    got = gradient(placed)
    np.testing.assert_array_equal(got["a"], 2 * tree["a"])
    assert got["a"].sharding == placed["a"].sharding


def test_split_and_replicate():
    mesh = mesh_of(4)
    parts = sharding.split(mesh, np.arange(8)).addressable_shards
    held = sorted(np.asarray(part.data).tolist() for part in parts)
    assert held == [[0, 1], [2, 3], [4, 5], [6, 7]]
    copies = sharding.replicate(mesh, np.arange(8)).addressable_shards
    assert [np.asarray(copy.data).tolist() for copy in copies] == [list(range(8))] * 4
