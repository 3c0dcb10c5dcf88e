"""Random rules against their exact laws, on a joint distribution whose conditionals are known."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from support import toy

from reoac_jax.backbone.draw import DrawSettings, predict_tokens
from reoac_jax.backbone.prediction import Prediction
from reoac_jax.config.parameters import parse_member
from reoac_jax.rollout import Prompts
from reoac_jax.rollout.act import step_keys
from reoac_jax.samplers import SAMPLERS, sample

pytestmark = pytest.mark.slow

GEN_LEN, TOKENS = 3, 3
MASK = TOKENS  # the model's last id
EOS = 2
ROWS = 20_000

# A joint distribution over three tokens, correlated so that the order of work matters.
JOINT = np.random.default_rng(5).dirichlet(np.full(TOKENS**GEN_LEN, 0.4)).reshape([TOKENS] * 3)


@functools.cache
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


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _compiled(rule, numbers, steps: int, strategy: str, prompts: Prompts):
    settings = toy.rollout_settings(max_steps=steps, gen_len=GEN_LEN, mask_id=MASK)
    own = rule.with_numbers(numbers)
    denoise = denoiser(own.draw(DrawSettings(strategy, 1.0)))
    return sample(denoise, prompts, settings, own, jnp.arange(TOKENS + 1) == EOS)[0]


@functools.cache
def run(text: str, steps: int, strategy: str, rows: int = ROWS, given=(MASK,) * GEN_LEN):
    ones = jnp.ones((rows, 1), jnp.int32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(7), jnp.arange(rows))
    given = jnp.broadcast_to(jnp.array(given, jnp.int32), (rows, GEN_LEN))
    prompts = Prompts(ones, ones[:, 0], ones.astype(bool), keys, given)
    rule = parse_member(text, SAMPLERS, "--policy")
    # Without its numbers: rules that differ in these alone share a program.
    structure = rule.with_numbers(dict.fromkeys(rule.numbers))
    return jax.device_get(_compiled(structure, rule.numbers, steps, strategy, prompts))


def p_value(tokens: np.ndarray, expected: np.ndarray) -> float:
    """Of a chi-square test of drawn rows `[N, 3]` against a distribution over them."""
    counts = np.zeros([TOKENS] * GEN_LEN)
    np.add.at(counts, tuple(tokens.T), 1)
    likely = expected > 5 / len(tokens)
    observed = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(expected[likely], expected[~likely].sum()) * len(tokens)
    keep = wanted > 0
    if observed[~keep].any():  # what the law says never happens
        return 0.0
    return stats.chisquare(
        observed[keep], wanted[keep] * observed.sum() / wanted[keep].sum()
    ).pvalue


# What a state may become in one step: (the next state, its chance) for each. A state's first entry
# is its tokens.
State = tuple
Step = Callable[[State, int], Iterator[tuple[State, float]]]


def law(start: State, steps: int, step: Step) -> np.ndarray:
    """The exact law of a sampler's result, by enumeration of all its states."""
    masses = {start: 1.0}
    for number in range(steps):
        following: dict[State, float] = {}
        for state, mass in masses.items():
            for after, chance in step(state, number):
                if chance > 0:
                    following[after] = following.get(after, 0.0) + mass * chance
        masses = following
    result = np.zeros([TOKENS] * GEN_LEN)
    for state, mass in masses.items():
        result[state[0]] += mass
    return result


def combinations(choices: list[list[tuple[Any, float]]]) -> Iterator[tuple[tuple, float]]:
    """What independent choices give together."""
    for combination in itertools.product(*choices):
        yield tuple(c[0] for c in combination), float(np.prod([c[1] for c in combination]))


def ancestral_law(steps: int) -> np.ndarray:
    def step(state: State, number: int) -> Iterator[tuple[State, float]]:
        chance, choices = 1 / (steps - number), []
        for position, token in enumerate(state[0]):
            if token != MASK:
                choices.append([(token, 1.0)])
                continue
            own = conditional(state[0], position)
            reveal = [(t, own[t] * chance) for t in range(TOKENS)]
            choices.append([*reveal, (MASK, 1 - chance)])
        for tokens, mass in combinations(choices):
            yield (tokens,), mass

    return law(((MASK,) * GEN_LEN,), steps, step)


def skipping_law(steps: int) -> np.ndarray:
    """`skip_eos`: proposals first; if each of them is eos, all are taken."""

    def step(state: State, number: int) -> Iterator[tuple[State, float]]:
        masked = [i for i in range(GEN_LEN) if state[0][i] == MASK]
        proposals = [list(enumerate(conditional(state[0], i))) for i in masked]
        for proposed, mass in combinations(proposals):
            chance = 1 / (steps - number)
            if all(token == EOS for token in proposed):
                chance = 1.0
            for coins, luck in combinations([[(True, chance), (False, 1 - chance)]] * len(masked)):
                tokens = list(state[0])
                for i, token, coin in zip(masked, proposed, coins, strict=True):
                    tokens[i] = token if coin else MASK
                yield (tuple(tokens),), mass * luck

    return law(((MASK,) * GEN_LEN,), steps, step)


def nucleus(p: np.ndarray, top_p: float, keep_crossing: bool) -> np.ndarray:
    kept, total = [], 0.0
    for token in np.argsort(-p, kind="stable"):
        crosses = total + p[token] > top_p
        if not kept or (total < top_p and (keep_crossing or not crosses)):
            kept.append(token)
        else:
            break
        total += p[token]
    return np.where(np.isin(np.arange(len(p)), kept), p, 0.0) / p[kept].sum()


def drawn_from(state: tuple[int, ...], position: int, temperature: float, top_p: float):
    """float64 `[TOKENS]`: the conditional at a temperature, its nucleus."""
    weights = conditional(state, position) ** (1 / temperature)
    return nucleus(weights / weights.sum(), top_p, True)


def entropy_law(temperature: float, top_p: float, drawn_entropy: bool) -> np.ndarray:
    """One token a step, where the entropy is lowest: of the conditional, or of what is drawn."""

    def step(state: State, number: int) -> Iterator[tuple[State, float]]:
        masked = [i for i in range(GEN_LEN) if state[0][i] == MASK]
        drawn = {i: drawn_from(state[0], i, temperature, top_p) for i in masked}
        looked_at = drawn if drawn_entropy else {i: conditional(state[0], i) for i in masked}
        place = min(masked, key=lambda i: (round(stats.entropy(looked_at[i]), 9), i))
        for token in range(TOKENS):
            after = (*state[0][:place], token, *state[0][place + 1 :])
            yield (after,), drawn[place][token]

    return law(((MASK,) * GEN_LEN,), GEN_LEN, step)


def low_confidence_law(temperature: float, top_p: float) -> np.ndarray:
    """One token a step, the drawn one of largest p, which knows no temperature and no nucleus."""

    def step(state: State, number: int) -> Iterator[tuple[State, float]]:
        masked = [i for i in range(GEN_LEN) if state[0][i] == MASK]
        proposals = [list(enumerate(drawn_from(state[0], i, temperature, top_p))) for i in masked]
        for proposed, mass in combinations(proposals):
            sure = [-conditional(state[0], i)[t] for i, t in zip(masked, proposed, strict=True)]
            best = int(np.argmin(sure))
            place = masked[best]
            yield ((*state[0][:place], proposed[best], *state[0][place + 1 :]),), mass

    return law(((MASK,) * GEN_LEN,), GEN_LEN, step)


def rates(schedule: str, t: float, s: float, eta: float) -> tuple[float, float, float]:
    """Of SAMPLERS: (the bound on sigma, sigma but for conf, the rate of revealing)."""
    if schedule == "loop":
        t_on, t_off, on = 0.55, 0.3, 0.6
        if t > t_on:
            alpha = [min((1 - x) * on / (1 - t_on), on) for x in (t, s)]
        elif t > t_off:
            return 0.0, eta, eta * on / (1 - on)
        else:
            alpha = [1 - x * (1 - on) / t_off for x in (t, s)]
        return 0.0, 0.0, (alpha[1] - alpha[0]) / (1 - alpha[0])
    alpha_t, alpha_s = 1 - t, 1 - s
    bound = min(1.0, (1 - alpha_s) / alpha_t) if alpha_t > 0 else 1.0
    sigma = {"cap": min(eta, bound), "rescale": eta * bound, "conf": 0.0}[schedule]
    return bound, sigma, (alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)


def remdm_law(schedule: str, steps: int, eta: float, top_p: float, keep: bool, start) -> np.ndarray:
    """A state also holds with which probability each position was written."""
    given = {i for i, token in enumerate(start) if token != MASK}

    def step(state: State, number: int) -> Iterator[tuple[State, float]]:
        tokens, written = state
        t, s = 1 - number / steps, 1 - (number + 1) / steps
        bound, sigma, rho = rates(schedule, t, s, eta)
        if number == steps - 1:
            sigma, bound, rho = 0.0, 0.0, 1.0
        free = [i for i in range(GEN_LEN) if tokens[i] != MASK and i not in given]
        remask = dict.fromkeys(free, sigma)
        if schedule == "conf" and free:
            weights = np.exp(-np.array([written[i] for i in free]))
            remask = dict(zip(free, bound * weights / weights.sum(), strict=True))
        choices = []
        for i, token in enumerate(tokens):
            if token == MASK:
                p = nucleus(conditional(tokens, i), top_p, keep)
                reveal = [((v, round(p[v], 9)), p[v] * rho) for v in range(TOKENS)]
                choices.append([*reveal, ((MASK, 0.0), 1 - rho)])
            else:
                back = remask.get(i, 0.0)
                choices.append([((token, written[i]), 1 - back), ((MASK, 0.0), back)])
        for combination, mass in combinations(choices):
            after, psi = zip(*combination, strict=True)
            yield (after, psi if schedule == "conf" else (0.0,) * GEN_LEN), mass

    return law((tuple(start), (0.0,) * GEN_LEN), steps, step)


@pytest.mark.parametrize("name", ["ancestral", "ancestral_cached"])
@pytest.mark.parametrize("steps", [1, 5])
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


@pytest.mark.parametrize("name", ["ancestral", "ancestral:block_len=0,steps=3"])
def test_skip_eos_draws_its_own_law(name):
    name = f"{name}{',' if ':' in name else ':'}skip_eos=true"
    result = run(name, 3, "argmax")  # it draws whatever the configuration says
    assert p_value(result.tokens, skipping_law(3)) > 1e-4
    assert p_value(result.tokens, ancestral_law(3)) < 1e-10


def test_temperature_and_top_p_draw_their_law():
    """Dream's published decoding; its order is that of the entropies after temperature and top-p.

    The configuration would take the most probable tokens: the policy's own choice wins.
    """
    own = entropy_law(2.0, 0.8, drawn_entropy=True)
    others = [
        entropy_law(2.0, 0.8, False),
        entropy_law(2.0, 1.0, True),
        entropy_law(1.0, 0.8, True),
    ]
    settings = "tokens=sample,temperature=2,top_p=0.8"
    tokens = run(f"entropy:{settings},drawn_entropy=true", GEN_LEN, "argmax").tokens
    assert p_value(tokens, own) > 1e-4
    for other in others:  # the test can tell
        assert p_value(tokens, other) < 1e-10
    tokens = run(f"entropy:{settings}", GEN_LEN, "argmax").tokens
    assert p_value(tokens, others[0]) > 1e-4


def test_drawn_tokens_are_trusted_by_their_probability_without_temperature():
    own = low_confidence_law(0.7, 0.85)
    settings = "tokens=sample,temperature=0.7,top_p=0.85"
    tokens = run(f"low_confidence:{settings}", GEN_LEN, "argmax").tokens
    assert p_value(tokens, own) > 1e-4
    assert p_value(tokens, low_confidence_law(1.0, 1.0)) < 1e-10


def test_a_policy_can_ask_for_the_most_probable_tokens():
    one = run("entropy:tokens=argmax", GEN_LEN, "sample", rows=50).tokens
    assert (one == one[0]).all()


@pytest.mark.parametrize(
    ("schedule", "eta", "top_p", "keep"),
    [
        ("cap", 0.6, 1.0, True), ("cap", 0.6, 0.8, False), ("rescale", 0.8, 0.8, True),
        ("conf", 0.0, 0.9, True), ("loop", 0.4, 0.9, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", [(MASK,) * GEN_LEN, (MASK, 2, MASK)])
def test_remdm_draws_its_exact_law(schedule, eta, top_p, keep, start):
    text = f"remdm:schedule={schedule},eta={eta},nucleus={top_p},keep_crossing={keep}"
    text += ",t_on=0.55,t_off=0.3,alpha_on=0.6"
    result = run(text, 5, "argmax", given=start)
    assert p_value(result.tokens, remdm_law(schedule, 5, eta, top_p, keep, start)) > 1e-4
    if start[1] == MASK:  # the test can tell it from one that never masks again
        plain = remdm_law("cap", 5, 0.0, top_p, keep, start)
        assert p_value(result.tokens, plain) < 1e-6


def test_remdm_asks_only_where_something_changed_and_something_is_masked():
    result = run("remdm:eta=0.05", 40, "sample", 2000)
    assert (result.steps == 40).all()  # a row is finished when its steps are done
    assert result.forward_passes.mean() < 0.3 * 40


def test_cached_passes_are_saved_and_change_no_answer():
    plain, cached = (run(name, 20, "sample", 2000) for name in ("ancestral", "ancestral_cached"))
    assert (cached.steps == plain.steps).mean() > 0.99  # the same coins
    # A pass is made only after a change: at most one for each token, the first one included.
    assert cached.forward_passes.max() <= GEN_LEN
    assert cached.forward_passes.mean() < 0.3 * plain.forward_passes.mean()


@pytest.mark.parametrize("name", ["ancestral_cached", "left_to_right"])
def test_infilling_draws_the_conditional(name):
    """Given the middle token: exact, for two blanks filled one after the other or by ancestry."""
    steps = GEN_LEN if name == "left_to_right" else 5
    result = run(name, steps, "sample", given=(MASK, 1, MASK))
    assert (result.tokens[:, 1] == 1).all()
    law = np.zeros_like(JOINT)
    if name == "left_to_right":
        law[:, 1] = JOINT[:, 1] / JOINT[:, 1].sum()
        assert p_value(result.tokens, law) > 1e-4
        assert (result.forward_passes == 2).all()  # nothing is left for the third step
    else:
        assert (result.forward_passes <= 2).all()
    whole = run(name, steps, "sample", given=(0, 1, 2))
    assert (whole.tokens == [0, 1, 2]).all() and not whole.forward_passes.any()
