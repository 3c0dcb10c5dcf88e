"""REOAC on GSM8K with the published 170M masked-diffusion backbone.

    python -m reoac_jax.sft --config configs/gsm8k.py
    python -m reoac_jax.train --config configs/gsm8k.py --config.backbone.path=RUN/backbone

Needs `checkpoints/mdlm-owt` (`python convert/mdlm_to_flax.py --output checkpoints/mdlm-owt`) and
`data/processed/gsm8k_{train,test}.jsonl`
(`bash scripts/download_data.sh gsm8k configs/gsm8k.py all`). The published backbone solves nothing,
so that supervised fine-tuning comes first: RUN is its run folder. What is learned follows
`configs/tiny.py`, where it is measured to work: a policy gradient over several episodes of each
prompt, progress and preview in place of the pooled hidden state, the backbone led to its own right
answers. Lengths, windows and the number of episodes are the original's (`gsm8k_original.py`).

Cost: 82 TFLOP an iteration with rows at their longest, reckoned from docs/scaling.md: 1024 forward
passes of a row, 8 backbone steps. Result to expect: not measured at this size.
"""

from ml_collections import ConfigDict

from reoac_jax.config import base


def get_config() -> ConfigDict:
    """What differs from the defaults; docs/configuration.md lists every key."""
    config = base()
    config.exp_name = "gsm8k"
    config.backbone.path = "checkpoints/mdlm-owt"
    config.backbone.tokenizer_source = "mdlm"
    config.backbone.finetune_mode = "lora"

    config.task.name = "gsm8k"
    config.task.answer_style = "equations"
    config.rollout.update(max_steps=32, gen_len=64, max_prompt_len=256, batch_size=32)
    config.evaluation.batch_size = 32
    config.features.use_hidden = False

    config.objective.actor = "policy_gradient"
    config.objective.backbone = "generated"
    config.train.update(iterations=50, episodes_per_iter=32, episodes_per_prompt=8)
    return config
