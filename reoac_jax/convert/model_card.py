"""The model card of an exported folder: README.md with the front matter that the hub reads."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from reoac_jax.backbone.architectures import architecture
from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.published import parameter_count
from reoac_jax.backbone.store import versions
from reoac_jax.convert.provenance import Provenance, Run
from reoac_jax.learning.trainable import Lora
from reoac_jax.tasks.sources import SOURCES, Source

CARD, RUN_CONFIG = "README.md", "training_config.json"
# As their own cards state it; derived weights keep it.
_LICENCES = {"kuleshov-group/mdlm-owt": "apache-2.0"}


def model_card(
    title: str,
    config: ModelConfig,
    provenance: Provenance,
    *,
    adapter: bool,
    export_command: str,
    licence: str | None = None,
) -> str:
    """The card's text, by the template `assets/model_card.md`.

    Args:
        title: the model's name.
        config: the backbone's sizes.
        provenance: what is known of the weights; what is unknown is not claimed.
        adapter: the folder holds a PEFT adapter, not whole weights.
        export_command: the command line that wrote the folder.
        licence: identifier such as "apache-2.0"; None takes the base's where that is known.
    """
    licence = licence or _LICENCES.get(provenance.hub_base[0] or "")
    run, scores = provenance.run, provenance.evaluations
    return _template().render(
        front_matter=_front_matter(title, config.architecture, provenance, adapter, licence),
        title=title,
        adapter=adapter,
        merged=run is not None and not adapter and run.finetune_mode == Lora.name,
        kind=architecture(config),
        spec=config.spec,
        parameters=parameter_count(config),
        reference=_reference(config),
        base=_base(provenance),
        origins=provenance.origins,
        base_hash=provenance.base_hash,
        run=run,
        run_config=RUN_CONFIG,
        data=_data(run),
        planned=_planned(run),
        scores=scores,
        graders=sorted({_grader(score) for score in scores}),
        python=platform.python_version(),
        versions=versions(),
        export_command=export_command,
        licence=licence,
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reoac_jax.convert", "assets"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": "{:.2%}".format,
        "listed": lambda of: ", ".join(f"{name} {version}" for name, version in of.items()),
    }
    return environment.get_template("model_card.md")


def _front_matter(
    title: str, kind: str, provenance: Provenance, adapter: bool, licence: str | None
) -> str:
    run = provenance.run
    source = _data(run)
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
        datasets=[source.repository] if source else None,
        model_name=title,
        eval_results=results or None,
    )
    return data.to_yaml()


def _reference(config: ModelConfig) -> Mapping[str, str] | None:
    """Module and name of the PyTorch class that reads the folder; None where there is none."""
    reference = architecture(config).reference_class
    if reference is None:
        return None
    module, _, name = reference.rpartition(".")
    return {"module": module, "name": name}


def _base(provenance: Provenance) -> str:
    """What an adapter is loaded onto; the hub's model only where nothing was trained between."""
    name, revision = provenance.hub_base
    if name is None or len(provenance.origins) > 1:
        return "the base, see Origin"
    return f"{name} at revision {revision}" if revision else name


def _data(run: Run | None) -> Source | None:
    """Published data that the run was trained on."""
    if run is None:
        return None
    task = run.config["task"]
    # The files have the names of their sources, where they were not given others.
    named = SOURCES.get(Path(task.get("train_file", "")).name.removesuffix("_train.jsonl"))
    return named if named and named.task == task["name"] else SOURCES.get(task["name"])


def _planned(run: Run | None) -> str | None:
    """How long the run was to be."""
    if run is None:
        return None
    if run.command == "train":
        return f"{run.config['train']['iterations']} iterations"
    epochs = run.config["sft"].get("epochs", 0)
    return f"{epochs:g} epochs" if epochs else f"{run.config['sft']['steps']} steps"


def _grader(score: Mapping[str, Any]) -> str:
    version = score.get("grader_version")
    return f"{score['grader']} {version}" if version else score["grader"]
