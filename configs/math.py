"""REOAC on MATH (competition problems) with the published 170M masked-diffusion backbone.

    python -m reoac_jax.sft --config configs/math.py
    python -m reoac_jax.train --config configs/math.py --config.backbone.path=RUN/backbone

Needs `checkpoints/mdlm-owt` (`python convert/mdlm_to_flax.py --output checkpoints/mdlm-owt`) and
`data/processed/math_{train,test}.jsonl` (`bash scripts/download_data.sh math configs/math.py all`).
As configs/gsm8k.py, with longer prompts and answers: on MATH-500 a problem has 73 GPT-2 tokens and
a solution 228 on average, and gen_len 256 cuts 31 % of the solutions.

Cost: a step computes about three times what one of GSM8K does and there are twice as many; expect
six times the cost. Result to expect: a model of this size is not expected to solve these problems;
the file is for measuring, and for larger backbones.
"""

from gsm8k import get_config as gsm8k
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What differs from `gsm8k.py`."""
    config = gsm8k()
    config.exp_name = "math"
    config.task = ConfigDict({"name": "math"})
    config.rollout.update(max_steps=64, gen_len=256, max_prompt_len=512, batch_size=8)
    config.evaluation.batch_size = 8

    config.operators.update(O_SCOPE={"scope_len": 64}, O_FAST={"scope_len": 128})

    config.train.backbone_batch = 4
    config.sft.update(batch_size=64, accumulate=16, eval_problems=128, eval_steps=256)
    return config
