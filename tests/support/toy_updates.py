"""Settings and minibatches for the three updates of the toy world."""

import functools

import jax
import numpy as np
from support import toy

from reoac_jax.learning.objectives.policy_gradient import PolicyGradient
from reoac_jax.learning.objectives.reference import Reference
from reoac_jax.learning.objectives.soft_q import SoftQ
from reoac_jax.learning.replay import BackboneBatch, HeadBatch
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.learning.trainable import Frozen, Full, Lora
from reoac_jax.policy.observation import Observation

SETTINGS = LearnerSettings(
    trainable=Lora(2.0, (), 3), actor=SoftQ(temperature=0.5), backbone=Reference(),
    actor_rate=0.01, critic_rate=0.01, backbone_rate=0.01, backbone_accumulate=1,
    weight_decay=0.01, gradient_clip=1.0, fsdp=False,
)  # fmt: skip
MODES = {"lora": SETTINGS.trainable, "full": Full(), "frozen": Frozen()}
ACTORS = {
    "soft_q": SETTINGS.actor,
    "policy_gradient": PolicyGradient(clip_ratio=0.2, entropy_weight=0.01),
}
N, PROMPT, K = 12, 7, 5


@functools.partial(jax.jit, static_argnums=0)
def initial(learner, params):
    """A learner's fresh state, in arrays of its own."""
    return learner.init(jax.random.key(0), params)


def real(counted=N):
    """What `split_padded` says of a minibatch whose first entries are its own."""
    return (np.arange(N) < counted).astype(np.float32)


def head_batch(seed=0):
    """A return that can be learnt from the observation; the actor decided in two rows of three."""
    rng = np.random.default_rng(seed)
    seen = rng.standard_normal((N, 11 + 16)).astype(np.float32)
    operator = rng.integers(0, 5, N).astype(np.int32)
    return HeadBatch(
        observation=Observation(alignment=seen[:, :11], pooled=seen[:, 11:]),
        operator=operator,
        chosen=rng.integers(0, 5, N).astype(np.int32),
        legal=np.ones((N, 5), bool),
        log_prob=np.log(rng.uniform(0.1, 0.3, N)).astype(np.float32),
        returns_to_go=(seen[:, 0] + 0.3 * operator).astype(np.float32),
        advantage=rng.standard_normal(N).astype(np.float32),
        decided=np.arange(N) % 3 > 0,
    )


def backbone_batch(seed=0):
    rng = np.random.default_rng(seed)
    prompts = toy.prompts(N, seed=seed, width=PROMPT)
    tokens = rng.integers(2, toy.VOCAB_SIZE, (N, 8)).astype(np.int32)
    tokens[rng.random((N, 8)) < 0.6] = toy.MASK_ID
    return BackboneBatch(
        prompt=np.asarray(prompts.tokens),
        prompt_length=np.asarray(prompts.lengths),
        tokens=tokens,
        position=np.argsort(rng.random((N, 8)), axis=1)[:, :K].astype(np.int32),
        written=rng.random((N, K)) < 0.7,
        target=rng.integers(0, toy.MASK_ID, (N, K)).astype(np.int32),
        log_prob=np.log(rng.uniform(0.01, 0.2, (N, K))).astype(np.float32),
        advantage=rng.uniform(-0.5, 1.0, N).astype(np.float32),
        step=rng.integers(0, 6, N).astype(np.int32),
    )
