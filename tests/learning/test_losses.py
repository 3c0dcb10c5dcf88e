"""The losses and their gradients against PyTorch, and log-probabilities against a full softmax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import toy

from reoac_jax.backbone import lora, prediction
from reoac_jax.backbone.likelihood import TokenStatistics, reference_log_probs
from reoac_jax.backbone.prediction import assemble_rows
from reoac_jax.backbone.products import CPU
from reoac_jax.learning import losses
from reoac_jax.learning.objectives.generated import Generated
from reoac_jax.learning.objectives.policy_gradient import PolicyGradient
from reoac_jax.learning.objectives.reference import Reference
from reoac_jax.learning.objectives.soft_q import SoftQ
from reoac_jax.learning.replay import BackboneBatch, HeadBatch
from reoac_jax.policy.distributions import OneOperator

pytestmark = pytest.mark.parity

torch = pytest.importorskip("torch")
N, A, G = 40, 5, 6
COUNTED = 29  # the rest has weight 0


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def weights():
    return (np.arange(N) < COUNTED).astype(np.float32)


def assert_same(loss_fn, torch_loss, x):
    """Value and gradient of a function of x; torch_loss sees the counted rows only, in float64."""
    value, gradient = jax.jit(jax.value_and_grad(loss_fn))(x)
    reference = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = torch_loss(reference[:COUNTED])
    expected.backward()
    assert np.abs(reference.grad.numpy()).max() > 1e-4
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, reference.grad.numpy(), rtol=1e-4, atol=1e-6)


def counted(x):
    return torch.tensor(np.asarray(x))[:COUNTED]


def test_critic_loss(rng):
    operator, returns = rng.integers(0, A, N), normal(rng, N)
    assert_same(
        lambda q: losses.critic_loss(q, operator, returns, weights()),
        lambda q: torch.nn.functional.mse_loss(
            q.gather(1, counted(operator)[:, None])[:, 0], counted(returns).double()
        ),
        normal(rng, N, A),
    )


def among_all(logits):
    """The actor's choice between operators that are all legal."""
    return OneOperator(logits, jnp.ones(logits.shape, bool))


def head_batch(**fields):
    """A minibatch that holds only what a loss reads."""
    return HeadBatch(**(dict.fromkeys(HeadBatch._fields) | fields))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_soft_q_loss(rng, temperature):
    q, objective = normal(rng, N, A), SoftQ(temperature=temperature)
    assert_same(
        lambda logits: objective.loss(among_all(logits), q, head_batch(), weights()).value,
        lambda logits: torch.nn.functional.cross_entropy(
            logits, torch.softmax(counted(q).double() / temperature, dim=1)
        ),
        normal(rng, N, A),
    )


def test_soft_q_leaves_the_critic_alone(rng):
    logits = normal(rng, N, A)
    gradient = jax.grad(
        lambda q: SoftQ().loss(among_all(logits), q, head_batch(), weights()).value
    )(normal(rng, N, A))
    assert not np.asarray(gradient).any()


@pytest.mark.parametrize("entropy_weight", [0.0, 0.05])
def test_policy_gradient_loss(rng, entropy_weight):
    chosen, advantage = rng.integers(0, A, N), normal(rng, N)
    logits = normal(rng, N, A)
    log_prob = np.asarray(jax.nn.log_softmax(logits))[np.arange(N), chosen]
    old = (log_prob + 0.4 * normal(rng, N)).astype(np.float32)  # ratios on both sides of the clip

    def reference(x, rows):
        policy = torch.distributions.Categorical(logits=x[rows])
        gain = counted(advantage).double()[rows]
        ratio = (policy.log_prob(counted(chosen)[rows]) - counted(old).double()[rows]).exp()
        assert (ratio > 1.2).any() and (ratio < 0.8).any()
        surrogate = torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
        return -(surrogate + entropy_weight * policy.entropy()).mean()

    objective = PolicyGradient(clip_ratio=0.2, entropy_weight=entropy_weight)
    decided = np.ones(N, bool)
    decided[:5] = False  # no pick of the actor's: left out, as padding is
    batch = head_batch(chosen=chosen, log_prob=old, advantage=advantage, decided=decided)
    assert_same(
        lambda x: objective.loss(among_all(x), logits, batch, weights()).value,
        lambda x: reference(x, slice(5, None)),
        logits,
    )


def known(log_probs):
    """Statistics of which a loss reads the log-probabilities alone."""
    return TokenStatistics(log_probs, None, None)


def backbone_batch(advantage):
    return BackboneBatch(**(dict.fromkeys(BackboneBatch._fields) | {"advantage": advantage}))


@pytest.mark.parametrize("objective", [Reference, Generated])
def test_weighted_likelihood(rng, objective):
    written, advantage = rng.random((N, G)) < 0.4, normal(rng, N)

    def reference(log_probs):
        mask = counted(written)
        weight = counted(advantage).double()[:, None].expand(-1, G)
        return -(log_probs * weight)[mask].mean()

    share = losses.position_shares(written, weights())
    batch = backbone_batch(advantage)
    assert_same(
        lambda log_probs: (
            objective(advantage_positive=False).loss(known(log_probs), batch, share).value
        ),
        reference,
        -np.abs(normal(rng, N, G)),
    )


@pytest.mark.parametrize("objective", [Reference(), Generated()])
def test_only_written_positions_count(objective):
    """Elsewhere the target may be the mask, of log-probability -inf: neither loss nor gradient."""
    logits = jnp.zeros((2, 3, 4)).at[:, :, 3].set(-jnp.inf)
    target = jnp.array([[0, 3, 1], [3, 3, 2]])
    share = losses.position_shares(jnp.array([[1, 0, 1], [0, 0, 1]], bool), jnp.ones(2))

    def loss(logits):
        log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, :, None], axis=-1)
        return objective.loss(known(log_probs[:, :, 0]), backbone_batch(jnp.ones(2)), share).value

    value, gradient = jax.value_and_grad(loss)(logits)
    assert value == pytest.approx(np.log(3), abs=1e-6)
    assert np.isfinite(gradient[:, :, :3]).all() and np.asarray(gradient[:, :, :3]).any()


def test_how_far_the_policy_has_moved(rng):
    """KL and clipped share, beside their exact values."""
    logits = np.repeat(normal(rng, 1, A), N, axis=0)
    old = logits + 0.5 * normal(rng, 1, A)
    p, q = (np.asarray(jax.nn.softmax(x[0].astype(np.float64))) for x in (old, logits))
    chosen = rng.choice(A, N, p=p / p.sum())
    batch = head_batch(
        chosen=chosen, log_prob=np.log(p[chosen]).astype(np.float32),
        advantage=normal(rng, N), decided=np.ones(N, bool),
    )  # fmt: skip
    policy = among_all(logits)
    metrics = PolicyGradient(clip_ratio=0.2).loss(policy, None, batch, weights()).metrics
    ratio = (q / p)[chosen][:COUNTED]
    np.testing.assert_allclose(metrics["actor_kl"], (ratio - 1 - np.log(ratio)).mean(), atol=1e-5)
    assert 0 < metrics["actor_clip_fraction"] == pytest.approx((abs(ratio - 1) > 0.2).mean())
    # Over all picks, weighted by the old policy, that mean is the exact KL.
    assert (p * (q / p - 1 - np.log(q / p))).sum() == pytest.approx((p * np.log(p / q)).sum())


def test_nothing_counted_gives_zero(rng):
    zeros, q = np.zeros(N, np.float32), normal(rng, N, A)
    index = np.zeros(N, int)
    assert losses.critic_loss(q, index, zeros, zeros) == 0
    batch = head_batch(chosen=index, log_prob=zeros, advantage=zeros, decided=zeros)
    for objective in (SoftQ(), PolicyGradient()):
        assert objective.loss(among_all(q), q, batch, zeros).value == 0
    share = losses.position_shares(np.zeros((N, G), bool), zeros + 1)
    assert Reference().loss(known(normal(rng, N, G)), backbone_batch(zeros + 1), share).value == 0


@pytest.mark.parametrize(
    "positive, clip, expected",
    [
        (False, 0.0, [-3.0, -0.2, 0.0, 0.7, 2.0]),
        (True, 0.0, [0.0, 0.0, 0.0, 0.7, 2.0]),
        (False, 0.5, [-0.5, -0.2, 0.0, 0.5, 0.5]),
        (True, 1.0, [0.0, 0.0, 0.0, 0.7, 1.0]),
    ],
)
def test_backbone_advantage(positive, clip, expected):
    returns = jnp.array([-3.0, -0.2, 0.0, 0.7, 2.0])
    objective = Generated(advantage_positive=positive, advantage_clip=clip)
    np.testing.assert_allclose(objective.bounded(returns), expected)


@functools.cache
def likelihood_inputs(time_conditioning):
    model, params = toy.backbone(2, blocks=1, time_conditioning=time_conditioning)
    targets = ("attn_qkv", "attn_out", "mlp_in", "final/linear")
    overlay = toy.randomise(
        jax.jit(lora.init, static_argnums=(2, 3))(jax.random.key(0), params, targets, 3), 5
    )
    rng = np.random.default_rng(1)
    prompt = rng.integers(0, toy.VOCAB_SIZE, (6, 6)).astype(np.int32)
    generated = rng.integers(0, toy.VOCAB_SIZE, (6, 4)).astype(np.int32)
    rows, lengths = assemble_rows(prompt, np.array([1, 6, 3, 4, 2, 5], np.int32), generated, 0)
    reference = rng.integers(0, toy.MASK_ID, (6, 4)).astype(np.int32)
    coefficients = normal(rng, 6, 4)
    return model, params, overlay, rows, lengths, reference, rng.random(6), coefficients


LORA_SCALE = 1.5


def gradients_and_value(log_probs_of, time_conditioning):
    """Gradients of a weighted sum of log-probabilities by base and overlay, and these."""
    _, params, overlay, *_, coefficients = likelihood_inputs(time_conditioning)

    def total(params, overlay):
        log_probs = log_probs_of(params, overlay)
        return (log_probs * coefficients).sum(), log_probs

    return jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(params, overlay)


@functools.cache
def expected_likelihood(time_conditioning):
    """All logits at once, merged weights, and a log-softmax without the mask's column."""
    model, _, _, rows, lengths, reference, sigma, _ = likelihood_inputs(time_conditioning)
    place = lengths[:, None] - 4 + np.arange(4)

    def log_probs_of(params, overlay):
        variables = {"params": lora.merge(params, overlay, LORA_SCALE)}
        logits = model.apply(variables, rows, lengths, sigma).logits[:, :, : toy.MASK_ID]
        return jax.nn.log_softmax(logits)[jnp.arange(6)[:, None], place, reference]

    return gradients_and_value(log_probs_of, time_conditioning)


@pytest.mark.parametrize("time_conditioning, chunk", [(False, 1), (False, 2), (True, None)])
def test_reference_log_probs_and_gradients(monkeypatch, time_conditioning, chunk):
    if chunk is not None:
        few = CPU._replace(logits_at_a_time=chunk * 4 * toy.VOCAB_SIZE)
        monkeypatch.setattr(prediction, "products", lambda: few)
    model, _, _, rows, lengths, reference, sigma, _ = likelihood_inputs(time_conditioning)

    def log_probs_of(params, overlay):
        variables = {"params": params, "lora": lora.collection(overlay, LORA_SCALE)}
        return reference_log_probs(model, variables, rows, lengths, reference, sigma)

    gradients, log_probs = gradients_and_value(log_probs_of, time_conditioning)
    expected_gradients, expected = expected_likelihood(time_conditioning)
    np.testing.assert_allclose(log_probs, expected, atol=2e-5)
    leaves = jax.tree.leaves_with_path(expected_gradients)
    still = [path for path, x in leaves if not np.asarray(x).any()]
    assert not still
    for (path, want), got in zip(leaves, jax.tree.leaves(gradients), strict=True):
        size = np.abs(want).max() + 1e-3
        np.testing.assert_allclose(got / size, want / size, atol=3e-4, err_msg=str(path))


def test_reference_log_probs_from_another_position():
    """`first` says where the window begins, which need not end with the row."""
    model, params, _, rows, lengths, reference, _, _ = likelihood_inputs(False)

    @jax.jit
    def run(reference, first):
        return reference_log_probs(model, {"params": params}, rows, lengths, reference, first=first)

    whole = run(reference, None)
    np.testing.assert_allclose(run(reference, lengths - 4), whole, atol=1e-6)
    np.testing.assert_allclose(run(reference[:, :2], lengths - 4), whole[:, :2], atol=1e-5)
    assert np.abs(run(reference[:, :2], lengths - 3) - whole[:, :2]).max() > 1e-3


def test_dropout_needs_its_key():
    inputs = likelihood_inputs(False)
    _, params, _, rows, lengths, reference, _, _ = inputs
    model, _ = toy.backbone(2, blocks=1, dropout=0.3)

    @jax.jit
    def run(key):
        return reference_log_probs(model, {"params": params}, rows, lengths, reference, None, key)

    first, again, other = (np.asarray(run(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3
