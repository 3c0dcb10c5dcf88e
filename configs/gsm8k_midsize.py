"""GSM8K with a small model trained from scratch: `configs/gsm8k.py`, end to end on 2 CPU cores.

    bash scripts/gsm8k_midsize.sh DATA OUTPUT

The script makes the backbone, 22.5 million parameters, most of them GPT-2's vocabulary. It solves
next to nothing, and shows that everything works on real problems.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_GSM8K = runpy.run_path(str(Path(__file__).with_name("gsm8k.py")))


def get_config() -> ConfigDict:
    """The complete configuration: that of `gsm8k.py` but for what stands here."""
    config = _GSM8K["get_config"]()
    config.exp_name = "gsm8k_midsize"
    config.backbone.path = "checkpoints/gsm8k_midsize"

    config.rollout.max_steps = 16
    config.rollout.max_prompt_len = 160
    config.rollout.branch_steps = ()
    config.rollout.branch_k = 0
    config.rollout.batch_size = 64

    config.reward.mode = "shaped"  # hardly an answer is right: what is near counts too
    config.objective.actor = "policy_gradient"
    config.optimizer.actor_rate = 1e-3
    config.optimizer.critic_rate = 1e-3

    config.train.iterations = 6
    config.train.episodes_per_iter = 64
    config.train.episodes_per_prompt = 8
    config.train.actor_steps = 8

    config.sft.steps = 400
    config.sft.batch_size = 16
    config.sft.accumulate = 1
    config.sft.learning_rate = 1e-3
    config.sft.warmup_steps = 40
    config.sft.beta2 = 0.98
    config.sft.ema_decay = 0.98
    config.sft.eval_every = 200
    config.sft.eval_problems = 64
    config.sft.eval_steps = 16
    config.sft.checkpoint_every = 200

    config.evaluation.batch_size = 64
    return config
