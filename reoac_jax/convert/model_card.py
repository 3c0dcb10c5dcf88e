"""The model card of an exported folder: README.md with the front matter that the hub reads."""

import platform
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from reoac_jax.backbone.architectures import architecture
from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.published import parameter_count
from reoac_jax.backbone.store import versions
from reoac_jax.convert.provenance import Provenance, Run
from reoac_jax.learning.trainable import Lora
from reoac_jax.tasks.sources import SOURCES

CARD, RUN_CONFIG = "README.md", "training_config.json"
# As their own cards state it; derived weights keep it.
_LICENCES = {"kuleshov-group/mdlm-owt": "apache-2.0"}

_USE_WEIGHTS = """\
```python
import torch
from {module} import {name}

model = {name}.from_folder(".")  # this folder; plain PyTorch, no flash-attn
tokens = torch.full((1, 8), model.mask_id)  # int64 [batch, length], the mask where text is wanted
logits = model(tokens{sigma}).logits  # float32 [batch, length, {vocab}]
```
"""
_USE_ADAPTER = """\
```python
import torch
from peft import PeftModel
from {module} import {name}

base = {name}.from_folder("BASE")  # {base}
model = PeftModel.from_pretrained(base, ".")  # this folder
tokens = torch.full((1, 8), base.mask_id)  # int64 [batch, length], the mask where text is wanted
logits = model(tokens{sigma}).logits  # float32 [batch, length, {vocab}]
```

`python -m reoac_jax.convert.peft_to_flax --adapter DIR --base BACKBONE --output DIR` merges it into
a backbone for reoac_jax, and the configuration key `lora.adapter` trains it further.
"""


def model_card(
    title: str,
    config: ModelConfig,
    provenance: Provenance,
    *,
    adapter: bool,
    export_command: str,
    licence: str | None = None,
) -> str:
    """The card's text.

    Args:
        title: the model's name.
        config: the backbone's sizes.
        provenance: what is known of the weights; what is unknown is not claimed.
        adapter: the folder holds a PEFT adapter, not whole weights.
        export_command: the command line that wrote the folder.
        licence: identifier such as "apache-2.0"; None takes the base's where that is known.
    """
    licence = licence or _LICENCES.get(provenance.hub_base[0] or "")
    sections = [
        _front_matter(title, config.architecture, provenance, adapter, licence),
        f"# {title}\n",
        _introduction(config, provenance, adapter),
        "## Use\n",
        _use(config, provenance, adapter),
        "## Origin\n",
        _origin(provenance),
    ]
    if provenance.run is not None:
        sections += ["## Training and data\n", _training(provenance.run)]
    sections += [
        "## Scores\n",
        _scores(provenance),
        "## Versions\n",
        _versions(provenance, export_command),
        "## Licence\n",
        _licence(provenance, licence),
    ]
    return "\n".join(sections)


def _front_matter(
    title: str, kind: str, provenance: Provenance, adapter: bool, licence: str | None
) -> str:
    run = provenance.run
    task = run.config["task"]["name"] if run else None
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=SOURCES[score["task"]].repository
            if score["task"] in SOURCES
            else score["task"],
            dataset_name=score["task"],
            dataset_split="test",
            metric_type="accuracy",
            metric_value=score["accuracy"],
            metric_name=f"accuracy, policy {score['policy']}, {score['samples']} problems",
        )
        for score in provenance.evaluations
    ]
    data = ModelCardData(
        license=licence or "unknown",
        library_name="peft" if adapter else "transformers",
        tags=["masked-diffusion", kind, "reoac"] + (["lora"] if adapter else []),
        base_model=provenance.hub_base[0],
        datasets=[SOURCES[task].repository] if task in SOURCES else None,
        model_name=title,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _introduction(config: ModelConfig, provenance: Provenance, adapter: bool) -> str:
    kind, spec = architecture(config), config.spec
    sizes = f"{parameter_count(config):,} parameters".replace(",", " ")
    what = (
        f"A LoRA adapter (PEFT) for a masked-diffusion language model ({kind.title}) of"
        if adapter
        else f"A masked-diffusion language model ({kind.title}) of"
    )
    lines = [
        f"{what} {sizes}: vocabulary {spec.vocab_size}, width {spec.hidden_dim}, "
        f"{spec.n_blocks} blocks, context {spec.context}."
    ]
    run = provenance.run
    if run is not None and not adapter and run.finetune_mode == Lora.name:
        lines.append("The LoRA overlay that was trained is merged into the weights.")
    if run is not None and run.command == "train":
        lines.append(
            "It was trained by REOAC, in which an actor chooses where each denoising step works. "
            "Actor and critic are not in this folder."
        )
    return " ".join(lines) + "\n"


def _use(config: ModelConfig, provenance: Provenance, adapter: bool) -> str:
    name, revision = provenance.hub_base
    at = f" at revision {revision}" if revision else ""
    base = f"{name}{at}" if name and len(provenance.origins) == 1 else "the base, see Origin"
    template = _USE_ADAPTER if adapter else _USE_WEIGHTS
    spec, reference = config.spec, architecture(config).reference_class
    sigma = ", torch.zeros(1)" if spec.sees_time else ""
    code = ""
    if reference is not None:
        module, _, class_name = reference.rpartition(".")
        code = template.format(
            module=module, name=class_name, base=base, sigma=sigma, vocab=spec.vocab_size
        )
    return (
        code + f"\nThe logits are raw: the mask (token {spec.mask_id}) must get probability 0, and "
        "only the logits at masked positions were trained. Sampling is the caller's work.\n"
    )


def _origin(provenance: Provenance) -> str:
    lines: list[str] = []
    for origin in provenance.origins:
        text = f"`{origin.get('source', 'unknown')}`"
        if origin.get("steps"):
            text += f", {origin['steps']} steps on {origin['task']}, mode {origin['mode']}"
        if origin.get("weights"):
            text += f", file `{origin['weights']}`"
        if origin.get("ema"):
            text += ", its averaged weights"
        if origin.get("revision"):
            text += f", revision `{origin['revision']}`"
        if origin.get("sha256"):
            text += f", SHA-256 `{origin['sha256']}`"
        lines.append(f"- {'from ' if lines else ''}{text}\n")
    lines.append(f"- hash of the base's weights in reoac_jax: `{provenance.base_hash}`\n")
    return "".join(lines)


def _training(run: Run) -> str:
    task = run.config["task"]
    source = SOURCES.get(task["name"])
    data = (
        f"`{source.repository}` (licence {source.licence})"
        if source
        else "problems that reoac_jax generates or a file of the user's"
    )
    options = ", ".join(f"`{key}` {value!r}" for key, value in task.items() if key != "name")
    planned, unit = (
        (run.config["train"]["iterations"], "iterations")
        if run.command == "train"
        else (run.config["sft"]["steps"], "steps")
    )
    return (
        f"Task `{task['name']}`: {data}; {options}.\n\n"
        f"    python -m reoac_jax.{run.command} --config {RUN_CONFIG}\n\n"
        f"`{RUN_CONFIG}` is the run's configuration as it was, paths included. These weights are "
        f"those after {run.done} of {planned} {unit}, seed {run.config['seed']}, mode "
        f"`{run.finetune_mode}`.\n"
    )


def _scores(provenance: Provenance) -> str:
    if not provenance.evaluations:
        return "No evaluation of these weights was at hand when the folder was written.\n"
    lines = [
        "| task | policy | accuracy | 95 % interval | correct | forward passes | steps at most |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    for score in provenance.evaluations:
        low, high = score["interval_95"]
        lines.append(
            f"| {score['task']} | {score['policy']} | {score['accuracy']:.2%} | {low:.2%} to "
            f"{high:.2%} | {score['correct']} of {score['samples']} | "
            f"{score['forward_passes']:.2f} | {score['max_steps']} |\n"
        )
    graders = sorted({_grader(score) for score in provenance.evaluations})
    lines.append(f"\nTest problems, graded strictly by {', '.join(graders)}.")
    if any(score["policy"] == "actor" for score in provenance.evaluations):
        lines.append(
            " The policy `actor` needs the run's actor, which this folder does not hold; the other"
            " policies need these weights alone."
        )
    return "".join(lines) + "\n"


def _grader(score: Mapping[str, Any]) -> str:
    version = score.get("grader_version")
    return f"{score['grader']} {version}" if version else score["grader"]


def _versions(provenance: Provenance, export_command: str) -> str:
    def listed(of: Mapping[str, str]) -> str:
        return ", ".join(f"{name} {version}" for name, version in of.items())

    trained = provenance.run.versions if provenance.run else {}
    return (
        (f"Trained with {listed(trained)}. " if trained else "")
        + f"Exported with Python {platform.python_version()}, {listed(versions())}, by\n\n"
        f"    {export_command}\n"
    )


def _licence(provenance: Provenance, licence: str | None) -> str:
    run = provenance.run
    source = SOURCES.get(run.config["task"]["name"]) if run else None
    lines = [
        f"Weights: {licence}."
        if licence
        else "The licence of these weights was not given (option `--license` of the export); "
        "weights derived from others come under the terms of those."
    ]
    if source:
        lines.append(f"Training data: {source.licence} (`{source.repository}`).")
    return " ".join(lines) + " reoac_jax itself: Apache-2.0.\n"
