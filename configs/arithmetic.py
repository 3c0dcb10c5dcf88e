"""REOAC on arithmetic word problems of one or two steps: `configs/tiny.py` with another task.

    bash scripts/make_arithmetic_backbone.sh
    python -m reoac_jax.train --config configs/arithmetic.py

The bundled tokenizer covers the task, the bundled backbone does not: the script fine-tunes it. A
prompt has up to 64 tokens, an answer in GSM8K's `equations` style, `<<48/2=24>> <<48+24=72>> ####
72`, 9 or 16 and eos.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

_TINY = runpy.run_path(str(Path(__file__).with_name("tiny.py")))


def get_config() -> ConfigDict:
    """The complete configuration: that of `tiny.py` but for what stands here."""
    config = _TINY["get_config"]()
    config.exp_name = "arithmetic"
    config.backbone.path = "checkpoints/arithmetic_mdlm"

    task = config.task = ConfigDict()
    task.name = "arithmetic"
    task.steps = (1, 2)  # fewest and most equations of an answer
    task.max_number = 200  # largest number, given or reached
    task.distractors = 0.1  # chance of an irrelevant sentence behind each sentence
    task.train_size = 20000  # problems
    task.test_size = 1000
    task.seed = 0  # of the generator; the problems do not depend on config.seed

    config.rollout.max_prompt_len = 64
    config.sft.batch_size = 64
    config.sft.steps = 1000
    config.sft.eval_every = 250
    config.sft.checkpoint_every = 250
    config.sft.eval_problems = 250
    return config
