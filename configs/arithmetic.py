"""REOAC on arithmetic word problems of one or two steps: `configs/tiny.py` with another task.

    bash scripts/make_arithmetic_backbone.sh
    python -m reoac_jax.train --config configs/arithmetic.py

The bundled tokenizer covers the task, the bundled backbone does not: the script fine-tunes it. A
prompt has up to 64 tokens, an answer in GSM8K's `equations` style, `<<48/2=24>> <<48+24=72>> ####
72`, 9 or 16 and eos.

Cost: nine minutes on 2 CPU cores for the backbone. Result to expect, on 500 problems after 10
iterations: the actor solves 25 % in 4.1 of at most 20 steps; the best sampler, by confidence in
blocks of 4, 24 % in 20.
"""

from ml_collections import ConfigDict
from tiny import get_config as tiny


def get_config() -> ConfigDict:
    """What differs from `tiny.py`."""
    config = tiny()
    config.exp_name = "arithmetic"
    config.backbone.path = "checkpoints/arithmetic_mdlm"
    config.task = ConfigDict({"name": "arithmetic"})
    config.rollout.max_prompt_len = 64

    config.sft.update(steps=1000, batch_size=64)
    config.sft.update(eval_every=250, eval_problems=250, checkpoint_every=250)
    return config
