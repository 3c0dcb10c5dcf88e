"""GSM8K with a small model trained from scratch, end to end on 2 CPU cores.

    bash scripts/gsm8k_midsize.sh DATA OUTPUT

The script makes the backbone, 22.5 million parameters, most of them GPT-2's vocabulary; the values
are those of `benchmarks/gsm8k_midsize/`.

Cost: 25 minutes on 2 CPU cores beside other work. Result to expect: it solves next to nothing (3 of
128 test problems by confidence, 2 by the actor), and shows that everything works on real problems.
"""

from gsm8k_original import get_config as gsm8k_original
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What differs from `gsm8k_original.py`."""
    config = gsm8k_original()
    config.exp_name = "gsm8k_midsize"
    config.backbone.path = "checkpoints/gsm8k_midsize"
    config.rollout.update(max_steps=16, max_prompt_len=160, branch_steps=(), branch_k=0)
    config.rollout.batch_size = 64
    config.evaluation.batch_size = 64

    config.reward.mode = "shaped"  # hardly an answer is right: what is near counts too
    config.objective.actor = "policy_gradient"
    config.objective.policy_gradient.entropy_weight = 0.01
    config.optimizer.update(actor_rate=1e-3, critic_rate=1e-3)
    config.train.update(iterations=6, episodes_per_iter=64, episodes_per_prompt=8, actor_steps=8)

    config.sft.update(steps=400, batch_size=16, accumulate=1)
    config.sft.update(learning_rate=1e-3, warmup_steps=40, beta2=0.98, ema_decay=0.98)
    config.sft.update(eval_every=200, eval_problems=64, eval_steps=16, checkpoint_every=200)
    return config
