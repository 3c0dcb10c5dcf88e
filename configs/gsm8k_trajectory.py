"""A backbone that learns from its own denoising, on GSM8K.

    python -m reoac_jax.train --config configs/gsm8k_trajectory.py \\
        --config.backbone.path=RUN/backbone

As `tiny_trajectory.py`, where this is measured to work: the order is fixed, left to right in 10
steps, tokens are drawn at temperature 1, and a policy gradient over the denoising trajectory trains
the backbone: all weights of the 170M one, an overlay of LoRA of Qwen3's, in 64 steps
(`configs/gsm8k_trajectory.py:qwen3`). RUN is a run of fine-tuning: a backbone that solves nothing
has nothing to learn from here.

Cost: at most 659 TFLOP an iteration, 66 PFLOP in all (the 170M backbone; matrix products counted in
the programs, as `bash scripts/gsm8k.sh --dry-run` does). Result to expect: not measured at this
size.
"""

from gsm8k import get_config as gsm8k
from gsm8k_qwen3 import get_config as gsm8k_qwen3
from ml_collections import ConfigDict

# Configuration, what is trained, steps of an episode, and episodes an iteration.
BACKBONES = {"owt": (gsm8k, "full", 10, 256), "qwen3": (gsm8k_qwen3, "lora", 64, 64)}
BATCH = 64  # states of a minibatch


def get_config(backbone: str = "owt") -> ConfigDict:
    """What differs from `gsm8k.py`, or with the argument `qwen3` from `gsm8k_qwen3.py`."""
    before, mode, steps, episodes = BACKBONES[backbone]
    config = before()
    config.exp_name = f"gsm8k_trajectory_{backbone}"
    config.backbone.finetune_mode = mode
    config.objective.backbone = "trajectory"

    config.rollout.update(max_steps=steps, sample_strategy="sample", temperature=1.0)
    config.operators.O_SCOPE = {"scope_len": -(-config.rollout.gen_len // steps), "threshold": 1.0}
    config.train.order = ("O_SCOPE",) * steps
    config.train.update(iterations=100, episodes_per_iter=episodes, episodes_per_prompt=8)
    # One epoch: each state of each episode once.
    config.train.update(critic_steps=0, actor_steps=0, backbone_steps=episodes * steps // BATCH)
    config.train.update(backbone_batch=BATCH, backbone_accumulate=4, buffer_size=episodes)
    config.optimizer.update(backbone_rate=1e-5, weight_decay=0.0)
    config.checkpoint.update(every=10)
    return config
