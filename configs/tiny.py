"""REOAC on countdown with a 3-block backbone: the whole chain in minutes on a laptop.

    python -m reoac_jax.train --config configs/tiny.py

Needs `checkpoints/tiny_mdlm` (`python convert/mdlm_to_flax.py --source data/tiny_mdlm --output
checkpoints/tiny_mdlm`); the problems come from a seeded generator. Three numbers make a prompt of 6
tokens and an answer of 12 tokens and eos, in a row of 20 that ends in padding (four numbers make
18); 7 steps write about 3 tokens each. The backbone stays frozen: only actor and critic learn, by a
policy gradient over 12 episodes of each of 96 problems an iteration.

Cost: 20 iterations, about a minute and a half on 2 CPU cores. Result to expect, on unseen problems
in 7 steps: an even quota by confidence solves 18 %, the trained actor 54 %, and a confidence
threshold of 0.9 as many in 6.9 steps on the mean.
"""

from ml_collections import ConfigDict

from reoac_jax.config import base


def get_config() -> ConfigDict:
    """What differs from the defaults; docs/configuration.md lists every key."""
    config = base()
    config.exp_name = "tiny"
    config.backbone.path = "checkpoints/tiny_mdlm"
    config.backbone.finetune_mode = "frozen"
    config.backbone.compute_dtype = "float32"

    config.task.name = "countdown"
    # Supervised fine-tuning saw the part "supervised"; the policy learns on problems new to it.
    config.task.train_part = "reserved"

    config.rollout.update(max_steps=7, gen_len=20, max_prompt_len=16, batch_size=384)
    config.rollout.sample_strategy = "argmax"
    config.evaluation.batch_size = 384

    config.rollout.empty_operator = "fallback"

    config.operators.names = ("O_NUM", "O_OP", "O_SCOPE", "O_BRANCH", "O_FAST")
    config.operators.update(O_NUM={"max_tokens": 20}, O_OP={"max_tokens": 20})
    config.operators.O_SCOPE = {"scope_len": 6, "threshold": 1.0}
    # Nothing branches: O_BRANCH is a window of one position.
    config.operators.O_BRANCH = {"scope_len": 1, "cost": 1.0, "branch_depth": 0.0}
    config.operators.O_FAST = {"scope_len": 20, "step_scale": 4.0, "threshold": 1.0}
    config.heads.update(actor_hidden=(64, 64), critic_hidden=(64, 64))

    config.train.update(iterations=20, episodes_per_iter=1152, episodes_per_prompt=12)
    config.train.update(head_batch=2048, backbone_batch=192, buffer_size=4608)

    config.sft.update(steps=4000, batch_size=192, accumulate=1)
    config.sft.update(learning_rate=1e-3, beta2=0.98, ema_decay=0.999)
    config.sft.update(eos_weight=1.0, short_share=0.0)
    config.sft.update(log_every=50, eval_problems=500, eval_steps=20, checkpoint_every=500)
    return config
