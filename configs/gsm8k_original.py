"""GSM8K with the values of the original research code, to compare with; not to learn with.

    python -m reoac_jax.train --config configs/gsm8k_original.py

These values cannot learn from a backbone that solves nothing, such as the published one: every
return is then minus the cost, the critic learns that cost, and the actor imitates softmax(Q) at
temperature 1, which is nearly uniform. Where the backbone does solve something, the pooled hidden
state still costs much (tiny: 35 % in place of 54 %, benchmarks/README.md). `configs/gsm8k.py` holds
what is known to learn.

Needs what `configs/gsm8k.py` needs. `update_rule`, `scope_anchor` and `answer_style` are ours; as
near to the original as is known is `--config.rollout.update_rule=overwrite
--config.rollout.scope_anchor=end`. Cost: 85 TFLOP an iteration with rows at their longest
(docs/scaling.md): 1312 forward passes of a row, 1 backbone step. Result to expect: none.
"""

from gsm8k import get_config as gsm8k
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What differs from `gsm8k.py`."""
    config = gsm8k()
    config.exp_name = "gsm8k_original"
    config.rollout.update(branch_steps=(4, 8, 12), branch_k=3)
    config.rollout.update(empty_operator="fallback", sigma="schedule")
    config.operators.names = ("O_NUM", "O_OP", "O_SCOPE", "O_BRANCH", "O_FAST")
    config.operators.update(O_SCOPE={"threshold": 1.0}, O_FAST={"threshold": 1.0})
    config.features.update(use_hidden=True, extra_features=False, operator_preview=False)

    config.objective.update(actor="soft_q", backbone="reference")
    config.objective.soft_q.temperature = 1.0
    config.optimizer.update(actor_rate=1e-4, critic_rate=1e-4, backbone_rate=5e-6)
    config.train.episodes_per_prompt = 1
    config.train.update(critic_steps=2, actor_steps=1, backbone_steps=1)
    return config
