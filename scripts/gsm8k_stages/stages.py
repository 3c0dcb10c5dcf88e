"""The stages of a size: commands of the package, what each leaves, and what it is made from.

In the arguments `{work}` and `{data}` stand for the folders, `{run:NAME}` for the newest finished
run of that name, and `{chosen}` for the policies that the development split has chosen. A stage's
hash is of the arguments as they stand here, of the values of its configuration and of the stages it
is made from: so it does not depend on where the folder lies, and changes with whatever the stage
would compute.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from gsm8k_stages.sizes import ROOT, Size
from reoac_jax.config import config_hash, load_config

CHOSEN = "{chosen}"
_ACTOR_KEYS = {"backbone.finetune_mode": "frozen"}


@dataclasses.dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
      name: unique. module: whose `main` takes the arguments.
      needs: the stages that it is made from.
      result: path in the work's folder, which is there when the stage is done; with a `*` any.
      whole: the result appears whole or not at all, so that what is there was finished.
      run: name of the training run that it is, which is gone on with; None: it is none.
      downloads: what it fetches from the hub, keys of `Size.downloads`.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    result: str = ""
    whole: bool = True
    run: str | None = None
    downloads: tuple[str, ...] = ()

    @property
    def config(self) -> tuple[str, tuple[str, ...]] | None:
        """The configuration's file and the overrides; None: the command takes none."""
        files = [text for text in self.arguments if text.split(":")[0].endswith(".py")]
        if not files:
            return None
        return files[0], tuple(a for a in self.arguments if a.startswith("--config."))

    def hash(self, earlier: Mapping[str, str]) -> str:
        """earlier: the hashes of the stages that it needs. Raises `InputError`."""
        values = None
        if self.config is not None:
            file, overrides = self.config
            values = config_hash(load_config(ROOT / file, overrides))
        own = [arg for arg in self.arguments if not arg.startswith("--config.")]
        made = [self.module, own, values, [earlier[name] for name in self.needs]]
        return hashlib.sha256(json.dumps(made).encode()).hexdigest()


def hashes(stages: list[Stage]) -> dict[str, str]:
    """Of each stage, by name."""
    found: dict[str, str] = {}
    for stage in stages:
        found[stage.name] = stage.hash(found)
    return found


def stages_of(size: Size, data: Path | None) -> list[Stage]:
    """All stages in their order. data: the folder in the place of the hub; None: the hub."""
    found = [*_data_stages(size, data), _conversion(size, data)]
    common = _common(size, data)
    found.append(
        Stage(
            "sft", "reoac_jax.sft",
            (
                "--config", size.fine_tuning, *_common(size, data, size.augmented),
                *_options(size.sft_changes),
                "--config.backbone.path={work}/start", "--config.output_dir={work}/runs",
                "--config.exp_name=sft",
            ),
            needs=(*[stage.name for stage in found],), result="runs/sft/*/backbone", run="sft",
        )
    )  # fmt: skip
    tuned = "{run:sft}/backbone"
    found.append(_sweep(size, common, "dev", "dev", tuned, _swept(size), ("sft",)))
    chosen = (CHOSEN,)
    found.append(_sweep(size, common, "test", "test", tuned, chosen, ("sft", "dev")))
    for seed in range(size.seeds):
        found += _seed_stages(size, common, seed, tuned)
    actors = [stage.name for stage in found if stage.name.startswith("eval-")]
    last = [f"actor-{size.actor_steps[-1]}-{seed}" for seed in range(size.seeds)]
    runs = ["{run:sft}", *(f"{{run:trajectory-{s}}}" for s in range(size.seeds))]
    runs += [f"{{run:{name}}}" for name in last]
    scores = [f"{{work}}/{name}.json" for name in actors]
    found.append(
        Stage(
            "report", "reoac_jax.report.__main__",
            (*runs, "--eval", *scores, "--output", "{work}/report"),
            needs=(*actors,), result="report/index.html", whole=False,
        )
    )  # fmt: skip
    found.append(
        Stage(
            "model", "reoac_jax.convert.from_flax",
            (
                "--checkpoint", f"{{run:{last[0]}}}/checkpoints", "--output", "{work}/model",
                "--eval", f"{{work}}/eval-{size.actor_steps[-1]}-0.json",
            ),
            needs=(f"eval-{size.actor_steps[-1]}-0",), result="model",
        )
    )  # fmt: skip
    return found


def _seed_stages(size: Size, common: tuple[str, ...], seed: int, tuned: str) -> list[Stage]:
    """The backbone trained over its own denoising, the same samplers on it, and its actors."""
    name, heads = f"trajectory-{seed}", size.train_changes
    order = {}
    if "rollout.max_steps" in heads:
        order["train.order"] = ",".join(["O_SCOPE"] * int(str(heads["rollout.max_steps"])))
    training = (f"--config.seed={seed}", "--config.output_dir={work}/runs")
    trained = f"{{work}}/backbone-{seed}"
    found = [
        Stage(
            name, "reoac_jax.train",
            (
                "--config", size.trajectory, *common, *_options({**heads, **order}), *training,
                f"--config.backbone.path={tuned}", f"--config.exp_name={name}",
            ),
            needs=("sft",), result=f"runs/{name}/*/checkpoints", whole=False, run=name,
        ),
        Stage(
            f"pytorch-{seed}", "reoac_jax.convert.from_flax",
            ("--checkpoint", f"{{run:{name}}}/checkpoints", "--output", f"{{work}}/pytorch-{seed}"),
            needs=(name,), result=f"pytorch-{seed}",
        ),
        Stage(
            f"backbone-{seed}", "reoac_jax.convert.to_flax",
            ("--source", f"{{work}}/pytorch-{seed}", "--output", trained, "--verify"),
            needs=(f"pytorch-{seed}",), result=f"backbone-{seed}",
        ),
    ]  # fmt: skip
    made = (f"backbone-{seed}",)
    found.append(_sweep(size, common, f"test-{seed}", "test", trained, (CHOSEN,), ("dev", *made)))
    for steps in size.actor_steps:
        actor, score = f"actor-{steps}-{seed}", f"eval-{steps}-{seed}"
        changes = {**heads, **_ACTOR_KEYS, "rollout.max_steps": steps}
        where = (*common, *_options(changes), f"--config.backbone.path={trained}")
        found.append(
            Stage(
                actor, "reoac_jax.train",
                ("--config", size.config, *where, *training, f"--config.exp_name={actor}"),
                needs=made, result=f"runs/{actor}/*/checkpoints", whole=False, run=actor,
            )
        )  # fmt: skip
        found.append(
            Stage(
                score, "reoac_jax.evaluate",
                (
                    "--config", size.config, *where, f"--config.seed={seed}", *_limit(size),
                    "--checkpoint", f"{{run:{actor}}}/checkpoints", "--output",
                    f"{{work}}/{score}.json",
                ),
                needs=(actor,), result=f"{score}.json",
            )
        )  # fmt: skip
    return found


def _data_stages(size: Size, data: Path | None) -> list[Stage]:
    local = () if data is None else ("--source", "{data}/gsm8k")
    found = [
        Stage(
            "gsm8k", "reoac_jax.tasks.prepare",
            ("gsm8k", size.config, "all", *local, *_common(size, data)),
            result="gsm8k_train.jsonl", downloads=() if local else ("gsm8k",),
        )
    ]  # fmt: skip
    if size.augmented:
        local = () if data is None else ("--source", "{data}/gsm8k_aug")
        found.append(
            Stage(
                "gsm8k_aug", "reoac_jax.tasks.prepare",
                ("gsm8k_aug", size.fine_tuning, "train", *local, *_common(size, data, True)),
                needs=("gsm8k",), result="gsm8k_aug_train.jsonl",
                downloads=() if local else ("gsm8k_aug",),
            )
        )  # fmt: skip
    return found


def _conversion(size: Size, data: Path | None) -> Stage:
    bundled = Path(size.published).is_dir()
    source = size.published if bundled or data is None else "{data}/weights"
    from_hub = not bundled and data is None
    fetched = ("weights", "tokenizer") if size.tokenizer else ("weights",)
    module, *options = size.converter
    return Stage(
        "start", module, ("--source", source, "--output", "{work}/start", *options),
        result="start", downloads=fetched if from_hub else (),
    )  # fmt: skip


def _sweep(
    size: Size,
    common: tuple[str, ...],
    name: str,
    split: str,
    backbone: str,
    policies: tuple[str, ...],
    needs: tuple[str, ...],
) -> Stage:
    limit = ("--problems", str(size.dev)) if split == "dev" else _limit(size, "--problems")
    return Stage(
        name, "sweep_samplers",
        (
            "--config", size.config, *common, f"--config.backbone.path={backbone}", *limit,
            "--split", split, "--output", f"{{work}}/{name}.jsonl", *policies,
        ),
        needs=needs, result=f"{name}.jsonl", whole=False,
    )  # fmt: skip


def _swept(size: Size) -> tuple[str, ...]:
    return tuple(
        text for policy, sweep in size.grid for text in ("--policy", policy, "--sweep", sweep)
    )


def _limit(size: Size, option: str = "--limit") -> tuple[str, ...]:
    return () if size.test is None else (option, str(size.test))


def _common(size: Size, data: Path | None, augmented: bool = False) -> tuple[str, ...]:
    """Of all stages. The development problems are the last of GSM8K's own training problems."""
    own = "{work}/gsm8k_train.jsonl"
    files = {"task.train_file": own, "task.test_file": "{work}/gsm8k_test.jsonl"}
    if augmented:
        files |= {"task.train_file": "{work}/gsm8k_aug_train.jsonl", "task.dev_file": own}
    changes = {**files, "task.dev_size": size.dev, **size.changes}
    if size.tokenizer and data is not None:
        changes["backbone.tokenizer_path"] = "{data}/gpt2"
    return _options(changes)


def _options(changes: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"--config.{key}={value}" for key, value in changes.items())
