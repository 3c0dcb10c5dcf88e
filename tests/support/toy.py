"""A toy world small enough for exact checks: word tokens, a random backbone, random heads."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from reoac_jax.backbone import save_backbone
from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.backbone.mdlm.config import BackboneConfig
from reoac_jax.backbone.mdlm.model import Backbone
from reoac_jax.policy.heads import Heads
from reoac_jax.policy.operators import OPERATOR_TYPES, Operator
from reoac_jax.policy.positions import PositionSizes
from reoac_jax.policy.rows import RowSizes
from reoac_jax.policy.value import BackboneCritic
from reoac_jax.policy.vocabulary import build_vocabulary
from reoac_jax.rollout import Prompts, RolloutSettings

WORDS = [
    "<eos>", "<unk>", "0", "1", "2", "3", "12", "3.5", "7%", "+", "-", "*", "=", "/", "apple",
    "Apple", "pear", "each", "total", "x1", "a=b", ".",
]  # fmt: skip
VOCAB_SIZE = len(WORDS) + 1  # and the mask
MASK_ID = len(WORDS)
EOS_ID = 0
# For programs of which no bit matters; they compile in a fifth of the time. Later compilers do not
# know the second option.
UNOPTIMISED = {"xla_backend_optimization_level": 0} | (
    {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}
)


def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: i for i, word in enumerate(WORDS)}
    model = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model, eos_token="<eos>", pad_token="<eos>", unk_token="<unk>"
    )


def vocabulary():
    return jax.tree.map(jnp.asarray, build_vocabulary(tokenizer(), VOCAB_SIZE, MASK_ID))


def randomise(params, seed: int, scale: float = 0.2):
    """All parameters random: at initialisation gates and head are zero, which hides mistakes."""
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    random = [x + scale * rng.standard_normal(x.shape).astype(np.float32) for x in leaves]
    return jax.tree.unflatten(tree, [jnp.asarray(x) for x in random])


def nan_like(tree):
    """The floats of a pytree, replaced by NaN."""
    return jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), tree)


@functools.cache
def _initial(module, seed: int, *example):
    """A module's parameters as it initialises them, on the host; compiled once for all tests."""
    example = [np.zeros(shape, dtype) for shape, dtype in example]
    init = jax.jit(module.init, compiler_options=UNOPTIMISED)
    return jax.device_get(init(jax.random.key(seed), *example))


def backbone(
    seed: int = 0,
    time_conditioning: bool = False,
    scale: float = 0.2,
    blocks: int = 2,
    **attributes,
):
    config = BackboneConfig(
        vocab_size=VOCAB_SIZE, model_length=64, hidden_dim=16, cond_dim=8, n_blocks=blocks,
        n_heads=2, time_conditioning=time_conditioning,
    )  # fmt: skip
    model = Backbone(config, **attributes)
    example = ((1, 4), "int32"), ((1,), "int32"), ((1,), "float32")
    params = _initial(Backbone(config), seed, *example)["params"]
    return model, randomise(params, seed, scale)


def word_backbone(folder: Path, blocks: int = 1, scale: float = 0.2) -> Path:
    """A random backbone over the bundled word tokenizer, saved in a converted folder."""
    config = BackboneConfig(1200, 64, 16, 8, blocks, 2)
    params = _initial(Backbone(config), 0, ((1, 4), "int32"), ((1,), "int32"))["params"]
    bundled = Path(__file__).resolve().parents[2] / "data" / "tiny_mdlm"
    save_backbone(
        folder, config, randomise(params, 0, scale), source={"source": "a test"},
        tokenizer=[bundled / name for name in ("tokenizer.json", "tokenizer_config.json")],
    )  # fmt: skip
    return folder


ROWS = RowSizes(
    gen_len=8, hidden_dim=16, vocab_size=VOCAB_SIZE, width=8, layers=1, attention_heads=2,
    token_rows=64,
)  # fmt: skip


POSITIONS = PositionSizes(gen_len=8, width=8, mlp_width=16, attention_heads=2, start=0.4)


def heads(settings: RolloutSettings, seed: int = 0):
    rows = ROWS if settings.rows else None
    if settings.positions:
        sizes = POSITIONS
        if settings.numbers:
            sizes = dataclasses.replace(sizes, start_order="numbers", start_decay=1.0)
        modules = Heads.over_positions(
            sizes, settings.extra_features, rows, settings.notation is not None
        )
    else:
        critic = None
        if settings.filled:
            model, weights = backbone(seed + 1, settings.time_conditioned, blocks=1)
            critic = BackboneCritic(model, len(settings.operators), settings.gen_len, EOS_ID)
        modules = Heads.create(
            (8,), (8,), 16, settings.use_hidden, settings.extra_features,
            settings.operator_preview, len(settings.operators), rows,
            settings.notation is not None, critic,
        )  # fmt: skip
    params = randomise(_initial(modules, seed), seed, 0.15)
    if settings.filled:
        params = params._replace(critic={"backbone": {"params": weights}, **params.critic})
    return modules, params


ALL = tuple(OPERATOR_TYPES)
ORIGINAL = ("O_NUM", "O_OP", "O_SCOPE", "O_BRANCH", "O_FAST")


def operators(names=ORIGINAL, **changes) -> tuple[Operator, ...]:
    """Operators with parameters for rows of 8; `O_NUM={"max_tokens": 3}` changes some of them."""
    values = {
        "O_NUM": dict(max_tokens=2), "O_OP": dict(max_tokens=3), "O_SCOPE": dict(scope_len=3),
        "O_BRANCH": dict(scope_len=3), "O_FAST": dict(scope_len=5),
        "O_CONFIDENT": dict(max_tokens=4), "O_SHARE": dict(share=0.3),
    }  # fmt: skip
    # Of a random backbone no confidence is above the defaults.
    plain = {name: {"threshold": 1.0} | values.get(name, {}) for name in names}
    return tuple(OPERATOR_TYPES[n](**(plain[n] | changes.get(n, {}))) for n in names)


def rollout_settings(**changes) -> RolloutSettings:
    values = dict(
        max_steps=6, gen_len=8, mask_id=MASK_ID, pad_id=EOS_ID, update_rule="denoise",
        selection_mode="sample", draw=DrawSettings("sample", 1.0),
        empty_operator="fallback", fallback_operator=2, repair_tokens=0, repair_threshold=0.3,
        branch=False, branch_steps=(), branch_k=2, cost_lambda=0.05, relation_temperature=1.0,
        use_hidden=True, extra_features=False, operator_preview=False, time_conditioned=False,
        sigma="masked_share", sigma_schedule="cosine", sigma_min=0.001, sigma_max=1.0,
        operators=operators(), scope_anchor="frontier",
    )  # fmt: skip
    return RolloutSettings(**(values | changes))


def given(batch: int, length: int = 8, seed: int = 0) -> jax.Array:
    """Regions with a random half of their tokens there already; the last row is complete."""
    rng = np.random.default_rng([seed, 1])
    tokens = rng.integers(2, len(WORDS), (batch, length))
    masked = rng.random((batch, length)) < 0.5
    masked[:, 0], masked[-1] = True, False
    return jnp.array(np.where(masked, MASK_ID, tokens), jnp.int32)


def prompts(batch: int, seed: int = 0, width: int = 7, rows=None) -> Prompts:
    """Random prompts; row i is the same whatever the batch. `rows` picks and orders them."""
    tokens, lengths, keys = [], [], []
    for row in range(batch) if rows is None else rows:
        rng = np.random.default_rng([seed, row])
        length = int(rng.integers(1, 8))
        line = np.full(width, EOS_ID, np.int32)
        line[:length] = rng.integers(2, len(WORDS), length)
        tokens.append(line)
        lengths.append(length)
        keys.append(rng.random(width) < 0.4)
    row_ids = jnp.arange(batch) if rows is None else jnp.array(list(rows))
    row_keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), row_ids)
    return Prompts(
        jnp.array(np.stack(tokens)), jnp.array(lengths, jnp.int32), jnp.array(np.stack(keys)),
        row_keys,
    )  # fmt: skip
