"""Backbones, tokenizers, overlays and checkpoints, for running and for converting."""

from pathlib import Path

from support.bad_inputs.case import (
    EVALUATE,
    HUB,
    LONG,
    RESUMED,
    SFT,
    TINY,
    Case,
    cut,
    edit,
    remove,
    write,
)
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast


def no_letters(folder: Path) -> None:
    model = Tokenizer(models.WordLevel({"+": 0, "<eos>": 1}, unk_token="+"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<eos>")
    tokenizer.save_pretrained(folder / "backbone" / "tokenizer")


CASES = {
    # ---- Backbones and tokenizers
    "backbone is a run": Case(
        "train --config tiny.py --config.backbone.path=run", "run has no|expected a folder that"
    ),
    "backbone is an adapter": Case(
        "sft --config tiny.py --config.backbone.path=adapter", "adapter has no|expected a folder"
    ),
    "backbone has a long name": Case(
        f"train --config tiny.py --config.backbone.path={LONG}", "File name too long"
    ),
    "backbone below a file": Case(
        "train --config tiny.py --config.backbone.path=tiny.py/x",
        "tiny.py/x does not exist|expected",
    ),
    "backbone of another width": Case(
        f"train {TINY}",
        "has shape [96], expected [192]",
        edit("backbone/config.json", hidden_dim=32),
    ),
    "backbone cut off": Case(
        f"evaluate {EVALUATE} --policy O_OP",
        "params is damaged|expected",
        cut("backbone/params/d/*"),
    ),
    "no tokenizer": Case(
        f"train {TINY}", "no tokenizer at backbone/tokenizer|expected", remove("backbone/tokenizer")
    ),
    "tokenizer is empty": Case(
        f"evaluate {EVALUATE} --policy O_OP",
        "backbone/tokenizer|expected",
        write("backbone/tokenizer/tokenizer.json", ""),
    ),
    "tokenizer without letters": Case(f"sft {SFT}", "tokenizer|expected", no_letters),
    "tokenizer of a hub out of reach": Case(f"train {TINY} {HUB}", "someone/something|expected"),
    "tokenizer of a name that is none": Case(
        f"train {TINY} {HUB}//", "someone/something//|expected a hub id"
    ),
    # ---- LoRA
    "target that matches nothing": Case(
        f"sft {SFT} --config.lora.targets=attention", "'attention'|expected a pattern over paths"
    ),
    "target that matches no matrix": Case(
        f"sft {SFT} --config.lora.targets=bias$", "'bias$'|expected a pattern over paths"
    ),
    "target that is no expression": Case(
        f"train {TINY} --config.backbone.finetune_mode=lora --config.lora.targets=attn_[",
        "'attn_['|no regular expression|expected",
    ),
    "rank wider than a matrix": Case(f"sft {SFT} --config.lora.rank=17", "lora.rank is 17|at most"),
    "adapter of another rank": Case(
        f"sft {SFT} --config.lora.adapter=adapter", "has rank 3|expected lora.rank 8"
    ),
    "adapter is a file": Case(
        f"sft {SFT} --config.lora.adapter=tiny.py", "tiny.py/adapter_config.json|expected"
    ),
    "adapter is a run": Case(
        f"evaluate {EVALUATE} --policy O_OP --config.lora.adapter=run",
        "adapter_config.json|expected",
    ),
    # ---- Checkpoints
    "heads of another depth": Case(
        f"evaluate {EVALUATE} --checkpoint run --config.heads.critic_hidden=64,",
        "critic does not fit|bias has shape|expected",
    ),
    "start from heads of another input": Case(
        f"train {TINY} --config.heads.checkpoint=run --config.features.use_hidden=True",
        "actor does not fit|/kernel has shape [33, 64]|expected",
    ),
    "start from heads that are not there": Case(
        f"train {TINY} --config.heads.checkpoint=nowhere", "checkpoint nowhere|expected"
    ),
    "heads of another input": Case(
        f"evaluate {EVALUATE} --checkpoint run --config.features.use_hidden=True",
        "actor does not fit|/kernel has shape [33, 64]|expected",
    ),
    "overlay of another rank": Case(
        "train --resume run",
        "does not fit the configuration|/a has shape|expected",
        edit(RESUMED, lora__rank=5),
    ),
    "checkpoint is a backbone": Case(
        f"evaluate {EVALUATE} --checkpoint backbone", "no checkpoint in backbone|expected"
    ),
    "checkpoint is a file": Case(
        f"evaluate {EVALUATE} --checkpoint tiny.py", "tiny.py is no folder|expected"
    ),
    "checkpoint of no iteration": Case(
        f"evaluate {EVALUATE} --checkpoint run/checkpoints/7", "checkpoints/7 is no folder|expected"
    ),
    "checkpoint without its actor": Case(
        f"evaluate {EVALUATE} --checkpoint run/checkpoints/0",
        "0 is damaged|actor|expected",
        remove("run/checkpoints/0/actor"),
    ),
    "checkpoint cut off": Case(
        "solve --checkpoint run q",
        "0 is damaged|critic|expected",
        cut("run/checkpoints/0/critic/ocdbt.process_0/d/*"),
    ),
    "checkpoint without a run's configuration": Case(
        "solve --checkpoint run q", "no configuration|expected --config FILE", remove(RESUMED)
    ),
    "resumed run is a file": Case("train --resume tiny.py", "tiny.py is no run folder|expected"),
    "resumed run is a backbone's folder": Case(
        "train --resume backbone", "backbone/config.json|expected"
    ),
    "resumed with another seed": Case(
        "train --resume run --config.seed=1", "--config.seed=1|expected only"
    ),
    # ---- Converting
    "converted to an unknown format": Case(
        "mdlm_to_flax --source backbone --output out --dtype float8", "'float8'|float32"
    ),
    "converted with an override": Case(
        "mdlm_to_flax --source backbone --output out --config.seed=1", "no configuration"
    ),
    "converted from a backbone": Case(
        "mdlm_to_flax --source backbone --output out", "backbone holds neither|expected"
    ),
    "converted from a long name": Case(
        f"mdlm_to_flax --source {LONG}/x --output out", "File name too long"
    ),
    "converted to a file": Case(
        "mdlm_to_flax --source backbone --output tiny.py", "tiny.py is a file|expected"
    ),
    "exported from a run": Case("flax_to_mdlm --source run --output out", "run has no|expected"),
    "exported from two": Case(
        "flax_to_mdlm --source backbone --checkpoint run --output out", "not allowed with"
    ),
    "exported from nothing": Case("flax_to_mdlm --output out", "--source --checkpoint"),
    "exported without its base": Case(
        "flax_to_mdlm --checkpoint run --output out",
        "backbone folder backbone does not exist",
        remove("backbone"),
    ),
    "exported overlay without its base": Case(
        "flax_to_mdlm --checkpoint run --output out --peft",
        "backbone/config.json",
        remove("backbone"),
    ),
    "exported with another's evaluation": Case(
        "flax_to_mdlm --checkpoint run --output out --eval evaluation.json",
        "no key base_hash|expected",
    ),
    "exported with no evaluation": Case(
        "flax_to_mdlm --source backbone --output out --eval tiny.py", "tiny.py|JSON"
    ),
    "exported to a full folder": Case(
        "flax_to_mdlm --checkpoint run --peft --output raw", "raw already holds|expected"
    ),
    "merged into a backbone that is none": Case(
        "peft_to_flax --adapter adapter --base raw --output out", "raw has no|expected"
    ),
    "merged from a file": Case(
        "peft_to_flax --adapter tiny.py --base backbone --output out", "tiny.py|expected"
    ),
    "merged from a backbone": Case(
        "peft_to_flax --adapter backbone --base backbone --output out",
        "adapter_config.json|expected",
    ),
    "merged from what is not UTF-8": Case(
        "peft_to_flax --adapter adapter --base backbone --output out",
        "adapter_config.json|JSON",
        write("adapter/adapter_config.json", b"\xff"),
    ),
    "merged from no rank": Case(
        "peft_to_flax --adapter adapter --base backbone --output out",
        "r is 0|expected 1 or more",
        edit("adapter/adapter_config.json", r=0),
    ),
    "merged from another dropout": Case(
        "peft_to_flax --adapter adapter --base backbone --output out",
        "lora_dropout is -0.5|expected 0 or more",
        edit("adapter/adapter_config.json", lora_dropout=-0.5),
    ),
    "merged to a file": Case(
        "peft_to_flax --adapter adapter --base backbone --output tiny.py",
        "tiny.py is a file|expected",
    ),
}
