"""A small folder of everything a command line can be given, for tests that damage some of it.

Nothing in it was trained: the run's checkpoint is of zeros, but for what it records.
"""

import json
import runpy
import shutil
from pathlib import Path

import jax
import numpy as np
from support import toy

from reoac_jax.backbone import Backbone, read_backbone, stored_hash
from reoac_jax.backbone.peft import Adapter, BaseModel, write_adapter
from reoac_jax.config import config_hash, to_json, validate
from reoac_jax.devices.sharding import make_mesh
from reoac_jax.learning.learner import Learner
from reoac_jax.learning.parts import make_heads
from reoac_jax.learning.settings import LearnerSettings
from reoac_jax.rollout import RolloutSettings
from reoac_jax.runs.checkpoints import RunCheckpoints

ROOT = Path(__file__).resolve().parents[3]
RANK = 3
PROBLEM = {
    "id": "gsm8k/train/0",
    "prompt": "3 7 12 = 33 ?",
    "target_answer": "33",
    "task": "gsm8k",
    "metadata": {"solution": "21 + 12 = 33 #### 33"},
}
METRICS = {"iteration": 0, "reward": 0.5, "operator_shares": {"O_NUM": 1.0}}
EVALUATION = {
    "task": "countdown", "policy": "actor", "accuracy": 0.5, "interval_95": [0.1, 0.9],
    "correct": 1, "samples": 2, "avg_cost": 3.0, "avg_steps": 3.0, "forward_passes": 3.0,
}  # fmt: skip


def build(folder: Path) -> None:
    """Fills the existing `folder`.

    tiny.py, gsm8k.py: bundled configurations. backbone/: converted, with a tokenizer of words.
    run/: of training in mode lora over `backbone`, with one checkpoint. adapter/: PEFT.
    train.jsonl, raw/: GSM8K problems as the program and as their authors write them.
    evaluation.json: of python -m reoac_jax.evaluate.
    """
    for name in ("tiny.py", "gsm8k.py"):
        shutil.copy(ROOT / "configs" / name, folder / name)
    _build_run(folder, toy.word_backbone(folder / "backbone"))
    (folder / "train.jsonl").write_text(json.dumps(PROBLEM) + "\n")
    (folder / "raw").mkdir()
    row = {"question": PROBLEM["prompt"], "answer": PROBLEM["metadata"]["solution"]}
    for split in ("train", "test"):
        (folder / "raw" / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))


def _build_run(folder: Path, backbone: Path) -> None:
    values = runpy.run_path(str(folder / "tiny.py"))["get_config"]()
    values.backbone.path = "backbone"
    values.backbone.finetune_mode = "lora"
    values.lora.rank, values.lora.alpha = RANK, float(RANK)
    values.output_dir = "."
    config = validate(values)
    sizes, params = read_backbone(backbone)
    heads = make_heads(config, Backbone(sizes), 0)
    settings = RolloutSettings.from_config(config, mask_id=0, pad_id=0, time_conditioned=False)
    mesh = make_mesh(jax.devices()[:1])
    learner = Learner(Backbone(sizes), heads, settings, LearnerSettings.from_config(config), mesh)
    state = _zeros(jax.eval_shape(lambda: learner.init(jax.random.key(0), params)))
    record = {
        "iteration": 0, "finetune_mode": "lora", "lora_scale": 1.0, "backbone_path": "backbone",
        "base_hash": stored_hash(backbone), "config_hash": config_hash(config), "versions": {},
    }  # fmt: skip
    run = folder / "run"
    with RunCheckpoints(run / "checkpoints", 1, 0) as checkpoints:
        items = {
            "actor": state.heads.actor, "critic": state.heads.critic,
            "optimizers": state.optimizers, "backbone_lora": state.backbone,
        }  # fmt: skip
        checkpoints.save(0, items, record, 0.0)
    (run / "config.json").write_text(json.dumps(to_json(config)))
    (run / "metrics.jsonl").write_text(json.dumps(METRICS) + "\n")
    (folder / "adapter").mkdir()
    adapter = Adapter(state.backbone, 1.0, 0.0)
    write_adapter(folder / "adapter", sizes, adapter, BaseModel(None, None))


def _zeros(shapes):
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
