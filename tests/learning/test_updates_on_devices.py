"""The three updates on 1, 2 and 4 devices: equal numbers, and only the gradients travel."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy
from support.toy_updates import ACTORS, MODES, SETTINGS, backbone_batch, head_batch, initial

from reoac_jax.backbone.likelihood import reference_log_probs
from reoac_jax.devices import sharding
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.objectives.trajectory import Trajectory
from scripts.collectives import bytes_by_kind, collectives

pytestmark = pytest.mark.slow
SCALARS = 256  # bytes of losses, weights and norms that may travel beside the gradients
# Bytes of the one row of conditioning where it is split and gathered as the weights are: twice its
# 256 sines and cosines, and the modulations [1, 96] and [1, 32] with their parts and gradients.
CONDITIONING = 4 * (2 * 256 + 3 * (96 + 32))
UPDATES = 3
BACKBONES = {
    "reference": SETTINGS.backbone,
    "trajectory": Trajectory(clip_ratio=0.2, kl_weight=0.1, entropy_weight=0.01),
}


@pytest.fixture(autouse=True)
def four_devices():
    if jax.device_count() < 4:
        pytest.skip("needs four devices")


@functools.cache
def learner(count, mode="lora", fsdp=False, backbone="reference"):
    rollout = toy.rollout_settings()
    model, _ = toy.backbone(1, blocks=1, dropout=0.1, lora_dropout=0.1)
    modules, _ = toy.heads(rollout)
    settings = dataclasses.replace(
        SETTINGS, trainable=MODES[mode], fsdp=fsdp,
        actor=ACTORS["policy_gradient"], backbone=BACKBONES[backbone],
    )  # fmt: skip
    return Learner(model, modules, rollout, settings, sharding.make_mesh(jax.devices()[:count]))


def start(it):
    """The state, the base where the mode keeps one, and where the objective does the start."""
    _, params = toy.backbone(1, blocks=1)
    params = jax.tree.map(jnp.copy, params)
    state = it.place(initial(it, params))
    kept = sharding.place_parameters(it.mesh, jax.tree.map(jnp.copy, params), it.settings.fsdp)
    return (
        state,
        kept if it.settings.trainable.keeps_base else None,
        kept if it.settings.backbone.measures_start else None,
    )


def uneven(batch):
    """10 of 12 rows: neither 4 nor, after the split, an even share."""
    return jax.tree.map(lambda x: x[:10], batch)


@functools.cache
def updated(count, mode, fsdp=False, backbone="reference"):
    """Losses of a few iterations of all three updates, and the state after them on the host."""
    it = learner(count, mode, fsdp, backbone)
    state, base, before = start(it)
    losses = []
    for seed in range(UPDATES):
        heads = sharding.split_padded(it.mesh, uneven(head_batch(seed)))
        rows = sharding.split_padded(it.mesh, uneven(backbone_batch(seed)))
        state, critic = it.critic_step(state, *heads)
        state, actor = it.actor_step(state, *heads)
        state, backbone = it.backbone_step(state, base, before, *rows, jax.random.key(seed))
        losses.append(jax.device_get(critic | actor | backbone))
    return losses, jax.device_get((state.heads, state.backbone)), state


def assert_same_run(got, want):
    for mine, theirs in zip(got[0], want[0], strict=True):
        assert mine.keys() == theirs.keys() >= {"critic_loss", "actor_loss", "backbone_loss"}
        for name, value in theirs.items():
            np.testing.assert_allclose(mine[name], value, atol=1e-5, err_msg=name)
    # AdamW divides by the gradient's size: where that is near 0, rounding decides the sign.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-3), got[1], want[1])


@pytest.mark.parametrize(("count", "mode"), [(2, "full"), (4, "full"), (4, "lora")])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_losses_do_not_depend_on_the_number_of_devices(count, mode, backbone):
    one = updated(1, mode, backbone=backbone)
    assert_same_run(updated(count, mode, backbone=backbone), one)
    assert len({float(losses["backbone_loss"]) for losses in one[0]}) == UPDATES


@pytest.mark.parametrize(("count", "mode"), [(2, "full"), (4, "full"), (4, "lora")])
def test_split_parameters_give_the_same_run(count, mode):
    assert_same_run(updated(count, mode, fsdp=True), updated(1, mode))


def compiled(it, step):
    state, base, before = start(it)
    mesh = it.mesh
    if step == "backbone_step":
        rows = sharding.split_padded(mesh, backbone_batch())
        arguments = base, before, *rows, jax.random.key(0)
    else:
        arguments = sharding.split_padded(mesh, head_batch())
    return state, getattr(it, step).lower(it, state, *arguments).compile()


def size(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.usefixtures("compiled_as_used")
@pytest.mark.parametrize(
    ("step", "mode"),
    [("critic_step", "lora"), ("actor_step", "lora"), ("backbone_step", "lora"),
     ("backbone_step", "full")],
)  # fmt: skip
def test_an_update_reduces_its_gradients_and_nothing_else(step, mode):
    """So that what a device sends does not grow with the number of devices or with the batch."""
    state, program = compiled(learner(4, mode), step)
    part = {"critic_step": state.heads.critic, "actor_step": state.heads.actor}
    gradients = size(part.get(step, state.backbone))
    travels = bytes_by_kind(program.as_text())
    assert travels.keys() == {"all-reduce"}
    # Less than all: the conditioning's weights see one row, whose gradient travels in their place.
    assert gradients / 2 <= travels["all-reduce"] <= gradients + SCALARS


@pytest.mark.usefixtures("compiled_as_used")
def test_split_parameters_add_their_gathers_only():
    state, program = compiled(learner(4, "full", fsdp=True), "backbone_step")
    weights = size(state.backbone)
    travels = bytes_by_kind(program.as_text())
    # Once for the loss, once more for its gradient.
    assert 1.8 * weights < travels.pop("all-gather") < 2 * weights + CONDITIONING
    assert sum(travels.values()) <= weights + SCALARS
    assert travels.keys() <= {"all-reduce", "reduce-scatter"}


@pytest.mark.parametrize("remat", [False, True])
def test_of_weights_in_parts_the_gradient_keeps_what_stands_between_blocks(remat):
    """Not the gathered weights, the inside of a block, or the logits."""
    model, params = toy.backbone(1, blocks=2)
    model, mesh = model.clone(remat=remat), sharding.make_mesh(jax.devices()[:4])
    batch, length, written = 8, 12, 5
    rows = jnp.ones((batch, length), jnp.int32)

    @sharding.gathering_again
    def loss(params):
        whole = {"params": sharding.gather_parameters(mesh, params)}
        lengths, target = jnp.full(batch, length), rows[:, :written]
        return reference_log_probs(model, whole, rows, lengths, target, shares=4).mean()

    residuals = jax.tree.leaves(jax.eval_shape(lambda params: jax.vjp(loss, params)[1], params))
    given = collections.Counter(x.shape for x in jax.tree.leaves(params))
    between = collections.Counter(x.shape for x in residuals if x.dtype == jnp.float32) - given
    blocks = {(batch, length, model.config.hidden_dim): 3}  # and what the first one reads
    assert {shape: between[shape] for shape in blocks} == blocks
    assert set(between) <= {*blocks, (batch, written), ()}


@pytest.mark.parametrize("count", [2, 4])
def test_a_device_holds_its_part_of_the_split_state(count):
    state, program = compiled(learner(count, "full", fsdp=True), "backbone_step")
    split = size((state.backbone, state.optimizers.backbone))
    others = size((state.heads, state.optimizers.actor, state.optimizers.critic))
    batch = size(backbone_batch())
    memory = program.memory_analysis()
    for held in (memory.argument_size_in_bytes, memory.output_size_in_bytes):
        share = (held - others) / split
        assert share == pytest.approx(1 / count, abs=0.02 + batch / split)
    after = updated(count, "full", fsdp=True)[2]
    for x in jax.tree.leaves((after.backbone, after.optimizers.backbone)):
        parts = 1 if x.sharding.is_fully_replicated else count
        assert x.addressable_shards[0].data.size * parts == x.size
    whole = [x for x in jax.tree.leaves(after.backbone) if x.sharding.is_fully_replicated]
    assert size(whole) < 0.02 * size(after.backbone)


def test_reading_of_a_compiled_text():
    text = """
      %a = f32[8,4]{1,0} all-reduce(f32[8,4]{1,0} %x), replica_groups={}
      %b = (f32[2]{0}, /*index=1*/bf16[3,5]{1,0}) all-reduce(%x, %y), to_apply=%add
      %c = (f32[2,3], f32[8,3]) all-gather-start(f32[2,3] %x), dimensions={0}
      %d = f32[8,3] all-gather-done(%c)
      %e = f32[8,3] add(%d, %d), metadata={op_name="all-reduce(x)"}
      ROOT %f = pred[7] collective-permute(pred[7] %p)
    """
    assert [tuple(c) for c in collectives(text)] == [
        ("all-reduce", 128), ("all-reduce", 38), ("all-gather", 96), ("collective-permute", 7),
    ]  # fmt: skip
    assert bytes_by_kind(text)["all-reduce"] == 166
