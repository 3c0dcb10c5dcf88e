"""GSM8K with Dream-7B-Instruct, by LoRA.

    python convert/to_flax.py --source Dream-org/Dream-v0-Instruct-7B \\
        --dtype stored --output checkpoints/dream
    python -m reoac_jax.evaluate --config configs/gsm8k_dream.py \\
        --policy entropy:steps=256,tokens=sample,temperature=0.1,top_p=0.9,drawn_entropy=true \\
        --output runs/dream.json
    python -m reoac_jax.train --config configs/gsm8k_dream.py

Needs `checkpoints/dream` and `data/processed/gsm8k_{train,test}.jsonl`
(`bash scripts/download_data.sh gsm8k configs/gsm8k_dream.py all`), and
one card of 80 GB: the weights take 15.2 GB as they are stored (bfloat16). The prompt is the model's
own chat, and a text ends at its end of turn. DiffuCoder has the same layout.

Cost: memory in docs/scaling.md; time not measured at this size. Result to expect: not measured;
published for the model itself: 81.0 %, reproduced elsewhere 82.0 %, with the decoding of the second
command, other prompts and another grader (docs/models.md). Training draws at temperature 1 and
writes a row in 64 steps.
"""

from ml_collections import ConfigDict

from reoac_jax.config import base


def get_config() -> ConfigDict:
    """What differs from the defaults; docs/configuration.md lists every key."""
    config = base()
    config.exp_name = "gsm8k_dream"
    config.backbone.path = "checkpoints/dream"
    config.backbone.tokenizer_source = "auto"
    config.backbone.finetune_mode = "lora"
    config.backbone.param_dtype = "stored"
    config.backbone.remat = "blocks"

    config.task.name = "gsm8k"
    config.task.answer_style = "full"
    config.task.prompt = "chat"
    config.rollout.update(max_steps=64, gen_len=256, max_prompt_len=384, batch_size=16)
    config.evaluation.update(batch_size=16)
    config.features.use_hidden = False

    config.sft.update(mode="lora", batch_size=32, accumulate=32)
    config.objective.actor = "policy_gradient"
    config.objective.backbone = "trajectory"
    config.train.update(iterations=50, episodes_per_iter=32, episodes_per_prompt=8)
    config.train.update(backbone_batch=16, backbone_accumulate=16)
    return config
