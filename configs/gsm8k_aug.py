"""Supervised fine-tuning of the 170M backbone on augmented GSM8K: 385 000 problems, equations.

    bash scripts/download_data.sh gsm8k configs/gsm8k.py all
    bash scripts/download_data.sh gsm8k_aug configs/gsm8k_aug.py train
    python -m reoac_jax.sft --config configs/gsm8k_aug.py
    python -m reoac_jax.train --config configs/gsm8k.py --config.backbone.path=RUN/backbone

The recipe is that of SMDM (arXiv 2410.18514) for these data: AdamW (0.9, 0.95), weight decay 0.1,
rate 2e-4 after 1 % warm-up, cosine to a tenth, batches of 256, 15 epochs. The second command leaves
out what is near a test or development problem, and counts it; `--source` takes a local file of
lines `question||<<..>> <<..>> #### n`. Examples are read from disk ahead of the steps.

Cost: 22 600 steps of at most 49.7 TFLOP, 1.12 EFLOP in all (matrix products counted in the program,
rows at their longest, 256 + 64 tokens): computed, 0.8 hours of an H100 at an assumed 40 % of its
peak; and 12 GB on the card. Result to expect: not measured; published for a 170M masked diffusion
model fine-tuned on these data: 45.3 % of the test problems (arXiv 2410.17891).
"""

from gsm8k import get_config as gsm8k
from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """What differs from `gsm8k.py`."""
    config = gsm8k()
    config.exp_name = "gsm8k_aug"
    config.task.train_file = "data/processed/gsm8k_aug_train.jsonl"
    # The last of the published training problems; nothing that is near them is trained on.
    config.task.dev_file = "data/processed/gsm8k_train.jsonl"
    config.task.dev_size = 500

    config.sft.update(epochs=15, batch_size=256, accumulate=4)
    config.sft.update(learning_rate=2e-4, warmup_share=0.01, final_rate=0.1)
    config.sft.update(beta2=0.95, weight_decay=0.1, gradient_clip=1.0)  # AdamW (0.9, 0.95)
    config.sft.update(log_every=50, eval_every=1000, checkpoint_every=1000)
    return config
