"""An overlay (LoRA) that learns to write an eighth of an answer a pass, however long the answer is.

As `mixed_few_passes.py`, but in one run from the bundled backbone: two, three and three tokens a
pass in answers of 12, 18 and 24, so that short ones are asked for fewer at once.

    python -m reoac_jax.train --config configs/mixed_share.py

Cost: 100 iterations, 37 minutes on 2 CPU cores beside much other work.
Result to expect: 38 % of 4 000 unseen problems in 6.7 passes, where the best mixture of two rules
of the backbone without it solves 29 %, and its rules that know how long each answer is 38 %
(benchmarks/README.md).
"""

from mixed_few_passes import get_config as mixed_few_passes
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What differs from `mixed_few_passes.py`."""
    config = mixed_few_passes()
    config.exp_name = "mixed_share"
    config.backbone.update(path="checkpoints/mixed_mdlm", finetune_mode="lora")
    config.lora.update(rank=16, alpha=32.0, targets=("attn_qkv", "attn_out", "mlp_in", "mlp_out"))
    config.rollout.max_steps = 9
    config.operators.names = (*config.operators.names, "O_SHARE")
    config.operators.O_SHARE = {"share": 0.125}
    config.optimizer.backbone_rate = 1e-3
    config.train.order = ("O_SHARE",) * 9
    config.train.iterations = 100
    return config
