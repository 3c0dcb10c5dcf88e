"""GSM8K with a Qwen3-0.6B that was turned into a masked-diffusion model, by LoRA.

    python convert/to_flax.py --source dllm-hub/Qwen3-0.6B-diffusion-mdlm-v0.1 \\
        --dtype stored --output checkpoints/qwen3
    python -m reoac_jax.evaluate --config configs/gsm8k_qwen3.py \\
        --policy low_confidence:steps=256 --output runs/qwen3.json
    python -m reoac_jax.train --config configs/gsm8k_qwen3.py

Needs `checkpoints/qwen3` and `data/processed/gsm8k_{train,test}.jsonl`
(`bash scripts/download_data.sh gsm8k configs/gsm8k_qwen3.py all`), and a card of 24 GB: the
weights take 1.2 GB as they are stored (bfloat16), what LoRA trains 2.3 million numbers at rank 8.
The prompt is the model's own chat, answers are written as in the published solutions, and a text
ends at the model's end of turn.

Cost: memory in docs/scaling.md; time not measured at this size. Result to expect: not measured;
published for the model itself: 29.3 % with the decoding of the second command, other prompts and
another grader (docs/models.md). Training writes a row in 64 steps.
"""

from ml_collections import ConfigDict

from reoac_jax.config import base


def get_config() -> ConfigDict:
    """What differs from the defaults; docs/configuration.md lists every key."""
    config = base()
    config.exp_name = "gsm8k_qwen3"
    config.backbone.path = "checkpoints/qwen3"
    config.backbone.tokenizer_source = "auto"
    config.backbone.finetune_mode = "lora"
    config.backbone.param_dtype = "stored"
    config.backbone.remat = "blocks"

    config.task.name = "gsm8k"
    config.task.answer_style = "full"
    config.task.prompt = "chat"
    config.rollout.update(max_steps=64, gen_len=256, max_prompt_len=384, batch_size=32)
    config.evaluation.update(batch_size=32)
    config.features.use_hidden = False

    config.sft.update(mode="lora", batch_size=32, accumulate=8)
    config.objective.actor = "policy_gradient"
    config.objective.backbone = "trajectory"
    config.train.update(iterations=50, episodes_per_iter=32, episodes_per_prompt=8)
    config.train.update(backbone_batch=16, backbone_accumulate=4)
    return config
