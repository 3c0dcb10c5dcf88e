"""The samplers on a toy joint distribution whose every conditional is known exactly."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support import toy

from reoac_jax.backbone.prediction import DrawSettings, Prediction, predict_tokens
from reoac_jax.rollout import Prompts
from reoac_jax.rollout.act import step_keys
from reoac_jax.samplers import RULES, sample

GEN_LEN, TOKENS = 3, 3
MASK = TOKENS  # the model's last id
ROWS = 20_000

# A joint distribution over three tokens, correlated so that the order of work matters.
JOINT = np.random.default_rng(5).dirichlet(np.full(TOKENS**GEN_LEN, 0.4)).reshape([TOKENS] * 3)


def conditional(state: tuple[int, ...], position: int) -> np.ndarray:
    """p(token at position | revealed tokens of `state`), float64 `[TOKENS]`."""
    index = tuple(slice(None) if token == MASK else slice(token, token + 1) for token in state)
    block = JOINT[index]
    axes = tuple(axis for axis in range(GEN_LEN) if axis != position)
    marginal = block.sum(axis=axes)
    if len(marginal) == 1:  # revealed already: never read
        return np.full(TOKENS, 1 / TOKENS)
    return marginal / marginal.sum()


STATES = list(itertools.product(range(TOKENS + 1), repeat=GEN_LEN))
LOGITS = np.full((len(STATES), GEN_LEN, TOKENS + 1), -1e9)
for number, each in enumerate(STATES):
    for place in range(GEN_LEN):
        LOGITS[number, place, :TOKENS] = np.log(conditional(each, place) + 1e-30)
LOGITS[..., MASK] = 5.0  # SUBS must leave it out


def denoiser(draw: DrawSettings):
    table = jnp.asarray(LOGITS, jnp.float32)
    powers = jnp.array([(TOKENS + 1) ** (GEN_LEN - 1 - i) for i in range(GEN_LEN)])

    def denoise(prompts, generated, step):
        logits = table[(generated * powers).sum(axis=1)]
        uniforms = jax.vmap(lambda key: jax.random.uniform(key, (GEN_LEN, 2)))(
            step_keys(prompts.keys, step)
        )
        flat = predict_tokens(
            logits.reshape(-1, MASK + 1),
            uniforms.reshape(-1, 2),
            jnp.arange(MASK + 1) != MASK,
            draw,
        )
        tokens = jax.tree.map(lambda x: x.reshape(generated.shape), flat)
        return Prediction(tokens, jnp.zeros((generated.shape[0], 1)))

    return denoise


def run(name: str, steps: int, strategy: str, rows: int = ROWS, block_len: int = 2, given=None):
    settings = toy.rollout_settings(max_steps=steps, gen_len=GEN_LEN, mask_id=MASK)
    ones = jnp.ones((rows, 1), jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7), jnp.arange(rows))
    if given is not None:
        given = jnp.broadcast_to(jnp.array(given, jnp.int32), (rows, GEN_LEN))
    prompts = Prompts(ones, ones[:, 0], ones.astype(bool), keys, given)
    draw = DrawSettings(strategy, 1.0, margin=True)
    program = jax.jit(functools.partial(sample, denoiser(draw), settings=settings, name=name,
                                        block_len=block_len))  # fmt: skip
    return jax.device_get(program(prompts)[0])


def p_value(tokens: np.ndarray, expected: np.ndarray) -> float:
    """Of a chi-square test of drawn rows `[N, 3]` against a distribution over them."""
    counts = np.zeros([TOKENS] * GEN_LEN)
    np.add.at(counts, tuple(tokens.T), 1)
    likely = expected > 5 / len(tokens)
    observed = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(expected[likely], expected[~likely].sum()) * len(tokens)
    keep = wanted > 0
    return stats.chisquare(
        observed[keep], wanted[keep] * observed.sum() / wanted[keep].sum()
    ).pvalue


def ancestral_law(steps: int) -> np.ndarray:
    """The exact law of the ancestral sampler's result, by enumeration of all its states."""
    law = {(MASK,) * GEN_LEN: 1.0}
    for left in range(steps, 0, -1):
        following: dict[tuple[int, ...], float] = {}
        for state, mass in law.items():
            choices = []
            for position, token in enumerate(state):
                if token != MASK:
                    choices.append([(token, 1.0)])
                    continue
                own = conditional(state, position)
                reveal = [(t, own[t] / left) for t in range(TOKENS)]
                choices.append([*reveal, (MASK, 1 - 1 / left)])
            for combination in itertools.product(*choices):
                after = tuple(token for token, _ in combination)
                chance = np.prod([chance for _, chance in combination])
                following[after] = following.get(after, 0.0) + mass * chance
        law = following
    result = np.zeros([TOKENS] * GEN_LEN)
    for state, mass in law.items():
        if mass > 0:
            result[state] = mass
    return result


@pytest.mark.parametrize("name", ["ancestral", "ancestral_cached"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_ancestral_draws_its_exact_law(name, steps):
    law = ancestral_law(steps)
    assert p_value(run(name, steps, "sample").tokens, law) > 1e-4
    if steps == 1:  # independent marginals, far from the joint: the test can tell
        assert p_value(run(name, steps, "sample").tokens, JOINT) < 1e-10


@pytest.mark.parametrize("name", ["left_to_right", "entropy", "margin"])
def test_one_token_a_step_draws_the_joint(name):
    """An order that does not look at the drawn token leaves the distribution as it is."""
    result = run(name, GEN_LEN, "sample")
    assert p_value(result.tokens, JOINT) > 1e-4
    assert (result.forward_passes == GEN_LEN).all() and (result.steps == GEN_LEN).all()


def priority(name: str, state: tuple[int, ...], position: int) -> float:
    own = np.sort(conditional(state, position))[::-1]
    return {
        "confidence": -own[0],
        "margin": own[1] - own[0],
        "entropy": -(own * np.log(own + 1e-30)).sum(),
        "left_to_right": position,
        "blocks": 2 * (position // 2) - own[0],
    }[name]


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("name", ["confidence", "margin", "entropy", "left_to_right", "blocks"])
def test_order_and_quota_equal_a_plain_loop(name, steps):
    state, passes = (MASK,) * GEN_LEN, 0
    for left in range(steps, 0, -1):
        masked = [i for i in range(GEN_LEN) if state[i] == MASK]
        if not masked:
            break
        passes += 1
        chosen = sorted(masked, key=lambda i, s=state: priority(name, s, i))[
            : -(-len(masked) // left)
        ]
        written = {i: int(np.argmax(conditional(state, i))) for i in chosen}
        state = tuple(written.get(i, token) for i, token in enumerate(state))
    result = run(name, steps, "argmax", rows=2)
    assert result.tokens.tolist() == [list(state)] * 2
    assert result.forward_passes.tolist() == [passes] * 2


def test_cached_passes_are_saved_and_change_no_answer():
    plain, cached = (run(name, 20, "sample", 2000) for name in ("ancestral", "ancestral_cached"))
    assert (cached.steps == plain.steps).mean() > 0.99  # the same coins
    # A pass is made only after a change: at most one for each token, the first one included.
    assert cached.forward_passes.max() <= GEN_LEN
    assert cached.forward_passes.mean() < 0.3 * plain.forward_passes.mean()


@pytest.mark.parametrize("name", RULES)
def test_no_mask_is_left(name):
    assert (run(name, 2, "sample", 500).tokens < MASK).all()


@pytest.mark.parametrize("name", ["ancestral_cached", "left_to_right"])
def test_infilling_draws_the_conditional(name):
    """Given the middle token: exact, for two blanks filled one after the other or by ancestry."""
    result = run(name, GEN_LEN, "sample", given=(MASK, 1, MASK))
    assert (result.tokens[:, 1] == 1).all()
    law = np.zeros_like(JOINT)
    if name == "left_to_right":
        law[:, 1] = JOINT[:, 1] / JOINT[:, 1].sum()
        assert p_value(result.tokens, law) > 1e-4
        assert (result.forward_passes == 2).all()  # nothing is left for the third step
    else:
        assert (result.forward_passes <= 2).all()
    whole = run(name, GEN_LEN, "sample", rows=2, given=(0, 1, 2))
    assert whole.tokens.tolist() == [[0, 1, 2]] * 2 and not whole.forward_passes.any()


@pytest.mark.parametrize("name", RULES)
def test_given_tokens_never_change(name):
    result = run(name, 2, "sample", 500, given=(2, MASK, 0))
    assert (result.tokens[:, 0] == 2).all() and (result.tokens[:, 2] == 0).all()
    assert (result.tokens[:, 1] != MASK).all()
