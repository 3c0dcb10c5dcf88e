"""Supervised fine-tuning of the backbone on a task's answers, and NELBO evaluation of any text.

    python -m reoac_jax.sft --config configs/gsm8k.py [--config.sft.steps=N ...]
    python -m reoac_jax.sft --resume runs/<exp_name>/<timestamp>
    python -m reoac_jax.sft --config configs/gsm8k.py --eval-only --text FILE

The result, the averaged weights, lies in RUN_DIR/backbone: the commands train and evaluate take it
with `--config.backbone.path=RUN_DIR/backbone`. `--eval-only` prints one JSON object last: nats per
token and perplexity of a UTF-8 text under the backbone of the configuration.
"""

import argparse
import contextlib
import functools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.backbone import save_backbone, tokenizer_files
from reoac_jax.backbone.prediction import prompt_width
from reoac_jax.backbone.store import derived_source, versions
from reoac_jax.config import config_hash, load_config, parse_command_line
from reoac_jax.devices import sharding
from reoac_jax.devices.compilation import set_up_compilation
from reoac_jax.devices.environment import check_devices, set_up_jax
from reoac_jax.devices.streams import RunStream
from reoac_jax.finetuning.evaluation import AnswerEvaluation, pad_prompts
from reoac_jax.finetuning.nelbo import NelboProgram, text_blocks
from reoac_jax.finetuning.step import (
    Examples,
    Finetuner,
    FinetuneSettings,
    FinetuneState,
    zero_sums,
)
from reoac_jax.learning.parts import (
    Parts,
    adapted_base,
    load_parts,
    read_own_record,
    starting_overlay,
)
from reoac_jax.runs.checkpoints import RunCheckpoints, latest_checkpoint, read_item
from reoac_jax.runs.finite import check_finite
from reoac_jax.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    RunLock,
    create_run,
    open_run,
    stopped_from_outside,
)
from reoac_jax.runs.sinks import MetricSinks
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.host_memory import keep_freed_memory
from reoac_jax.system.interrupt import Interrupt
from reoac_jax.system.progress import ProgressLine, working
from reoac_jax.system.shell import shell_command
from reoac_jax.tasks import make_task
from reoac_jax.tasks.problem_set import ProblemSet

BACKBONE = "backbone"  # the result's folder in the run's
_TEXT_TOKENS_AT_A_TIME = 8192  # per device


def main(argv: Sequence[str]) -> int:
    keep_freed_memory()
    set_up_jax()
    parser = argparse.ArgumentParser(prog="python -m reoac_jax.sft", description=__doc__)
    parser.add_argument("--config", help="a configuration file, for instance configs/tiny.py")
    parser.add_argument("--resume", metavar="RUN_DIR", help="go on from a run's last checkpoint")
    parser.add_argument("--eval-only", action="store_true", help="only measure; needs --text")
    parser.add_argument("--text", metavar="FILE", help="UTF-8 text for --eval-only")
    options, overrides = parse_command_line(parser, argv)
    if options.eval_only != (options.text is not None):
        raise InputError("expected --eval-only and --text FILE together")
    if (options.config is None) == (options.resume is None):
        raise InputError("expected one of --config FILE and --resume RUN_DIR")
    if options.resume is None:
        config = load_config(options.config, overrides)
        if options.eval_only:
            return evaluate_text(config, options.text)
        with RunLock() as lock:
            return train(config, None, lock)
    if overrides or options.eval_only:
        refused = "--eval-only" if options.eval_only else overrides[0]
        raise InputError(f"{refused} is not possible with --resume; expected --resume alone")
    with RunLock() as lock:
        run = open_run(options.resume, lock)
        return train(load_config(run / CONFIG), run, lock)


def evaluate_text(config: ConfigDict, text: str) -> int:
    """NELBO and perplexity of a text file, printed as one line of JSON."""
    set_up_compilation(config.compilation.cache_dir)
    check_devices()
    with working("loading the backbone"):
        parts = load_parts(config)
        blocks = text_blocks(text, parts.tokenizer, parts.model.spec.context)
    tokens = int(blocks.lengths.sum())
    print(f"{tokens} tokens in {len(blocks.blocks)} blocks, {blocks.documents} documents of {text}")
    mesh = sharding.make_mesh()
    rows = max(1, _TEXT_TOKENS_AT_A_TIME // blocks.blocks.shape[1])
    program = NelboProgram(
        parts.model, parts.tokenizer.eos_token_id, mesh, rows, config.sft.eval_samples, config.seed
    )
    began = time.monotonic()
    with ProgressLine(len(blocks.blocks), "measuring", unit="block") as progress:
        nats = program(
            sharding.replicate(mesh, adapted_base(config, parts)), blocks.answers(), progress.update
        )
    nelbo = nats.sum() / tokens
    errors = (nats - nelbo * blocks.lengths).std() * math.sqrt(len(nats)) / tokens
    report = {
        "text": text,
        "nelbo": float(nelbo),
        "perplexity": math.exp(nelbo),
        "nelbo_standard_error": float(errors),
        "tokens": tokens,
        "blocks": len(nats),
        "documents": blocks.documents,
        "samples": config.sft.eval_samples,
        "seed": config.seed,
        "backbone": config.backbone.path,
        "backbone_hash": parts.base_hash,
        "adapter": config.lora.adapter,
        "dtype": np.dtype(parts.model.dtype).name,
        "seconds": time.monotonic() - began,
    }
    print(json.dumps(report))
    return 0


def train(config: ConfigDict, run: Path | None, lock: RunLock) -> int:
    """Trains into a new run folder, or goes on in `run`. Returns the exit code."""
    set_up_compilation(config.compilation.cache_dir)
    check_devices()
    sft = config.sft
    checkpoint = None if run is None else latest_checkpoint(run / CHECKPOINTS)

    # ---- Mesh, input and model
    mesh = sharding.make_mesh()
    if (sft.batch_size // sft.accumulate) % mesh.size:
        raise InputError(
            f"sft.batch_size / sft.accumulate is {sft.batch_size // sft.accumulate}; expected a "
            f"multiple of the {mesh.size} devices"
        )
    if config.sharding.fsdp and sft.mode != "full":
        raise InputError("sharding.fsdp is True; expected False, or sft.mode full")
    with working("loading the backbone"):
        parts = load_parts(config)
    task = make_task(config.task, config.grader)
    with working("reading the problems"):
        problems = ProblemSet.load(task, "train", parts.tokenizer, config)
    truncation = ", ".join(f"{n} {what}" for what, n in problems.truncation.items())
    print(f"{len(problems)} problems of {task.name}; {truncation}")
    prompt, prompt_length = pad_prompts(problems.encoded)
    examples = sharding.replicate(mesh, Examples(prompt, prompt_length, problems.encoded.reference))
    finetuner = Finetuner(
        parts.training_model(config),
        parts.tokenizer.eos_token_id,
        FinetuneSettings.from_config(config),
        mesh,
    )
    key = jax.random.key(config.seed)
    overlay = None if checkpoint else starting_overlay(config, parts, sft.mode)
    init_key = jax.random.fold_in(key, RunStream.INIT)
    state = finetuner.place(finetuner.init(init_key, parts.base, overlay))
    start = 0
    if checkpoint is not None:
        state, start = _restore(checkpoint, config, parts, state)
    # In mode full the state holds the only copies that are needed.
    base = None if sft.mode == "full" else sharding.replicate(mesh, parts.base)
    merge = jax.jit(finetuner.params, out_shardings=sharding.whole(mesh))
    evaluation = AnswerEvaluation.create(config, parts, task, mesh)
    step_key = jax.random.fold_in(key, RunStream.FINETUNING)

    # ---- Run folder: made last, so that a mistake found above leaves nothing behind
    if run is None:
        run = create_run(config, lock)
        print(f"run folder {run}")
    else:
        print(f"run folder {run}: going on after step {start} of {sft.steps}")

    def save() -> None:
        check_finite(done, {}, _parameter_groups(state, sft.mode))
        checkpoints.save(done, _items(state, sft.mode), _record(config, parts, done), 0.0)

    # ---- Loop
    done, saved = start, start if checkpoint is not None else -1
    with (
        stopped_from_outside(run),
        contextlib.closing(task),
        Interrupt() as interrupt,
        RunCheckpoints(
            run / CHECKPOINTS, config.checkpoint.keep_latest, 0, after=checkpoint
        ) as checkpoints,
        MetricSinks(run, config, keep_through=start if checkpoint else -1) as log,
        ProgressLine(sft.steps, "fine-tuning", done=start, unit="step") as progress,
    ):
        if checkpoint is None:
            first = evaluation(merge(base, state.average))
            log.append(0, first)
            progress.note("before: " + _shown(first))
        since, began = done, time.monotonic()
        while done < sft.steps and not interrupt.asked:
            chosen = batch_rows(config.seed, len(problems), sft.batch_size, done)
            width = prompt_width(int(prompt_length[chosen].max()))
            state = finetuner.step(
                state, base, examples, sharding.split(mesh, chosen), step_key, np.int32(done),
                min(width, prompt.shape[1]),
            )  # fmt: skip
            done += 1

            # ---- Log and checkpoint
            evaluate = done % sft.eval_every == 0 or done == sft.steps
            if evaluate or done % sft.log_every == 0:
                sums = jax.device_get(state.sums)
                values = {
                    "loss": sums.loss / sums.steps,
                    "gradient_norm": sums.gradient_norm / sums.steps,
                    "learning_rate": np.float32(finetuner.settings.rate(done - 1)),
                    "seconds_per_step": (time.monotonic() - began) / (done - since),
                }
                check_finite(done, values, _parameter_groups(state, sft.mode))
                state = state._replace(sums=sharding.replicate(mesh, zero_sums()))
                if evaluate:
                    measured = evaluation(merge(base, state.average))
                    progress.note(f"step {done}: " + _shown(measured))
                    values |= measured
                log.append(done, values)
                progress.update(done - since, loss=values["loss"])
                since, began = done, time.monotonic()
            if done % sft.checkpoint_every == 0 or done == sft.steps:
                save()
                saved = done
        if saved < done:  # stopped between two saves
            save()
    if done < sft.steps:
        print(
            f"stopped after step {done}; go on with: {shell_command('sft', '--resume', run)}",
            file=sys.stderr,
        )
        return interrupt.exit_code

    # ---- Result
    result = run / BACKBONE
    if not result.exists():
        with stopped_from_outside(run):
            _export(result, config, parts, merge(base, state.average))
    use = shell_command("train", "--config", "FILE", f"--config.backbone.path={result}")
    print(f"done: {result}\nuse it: {use}")
    return 0


def batch_rows(seed: int, count: int, size: int, step: int) -> np.ndarray:
    """int32 `[size]`, the examples of a step: all `count` once in random order, then anew."""
    positions = np.arange(step * size, (step + 1) * size)
    epochs, places = np.divmod(positions, count)
    rows = [
        _epoch_order(seed, count, epoch)[place] for epoch, place in zip(epochs, places, strict=True)
    ]
    return np.array(rows, np.int32)


@functools.lru_cache(maxsize=2)
def _epoch_order(seed: int, count: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _items(state: FinetuneState, mode: str) -> dict[str, Any]:
    """A checkpoint's pytrees, by name.

    The averaged weights have the name that `reoac_jax.train` gives its own, so that
    `convert/flax_to_mdlm.py --checkpoint` takes an unfinished run too.
    """
    return {
        _average_item(mode): state.average,
        "weights": state.weights,
        "optimizer": state.optimizer,
        "sums": state.sums,
    }


def _parameter_groups(state: FinetuneState, mode: str) -> dict[str, Any]:
    return {_average_item(mode): (state.average, state.weights, state.optimizer)}


def _average_item(mode: str) -> str:
    return "backbone" if mode == "full" else "backbone_lora"


def _record(config: ConfigDict, parts: Parts, done: int) -> dict[str, Any]:
    return {
        "iteration": done,
        "finetune_mode": config.sft.mode,
        "lora_scale": config.lora.alpha / config.lora.rank,
        "backbone_path": config.backbone.path,
        "base_hash": parts.base_hash,
        "config_hash": config_hash(config),
        "versions": versions(),
    }


def _restore(
    checkpoint: Path, config: ConfigDict, parts: Parts, state: FinetuneState
) -> tuple[FinetuneState, int]:
    """The state of a checkpoint, placed as `state` is, and the number of steps it has behind it."""
    record = read_own_record(checkpoint, parts)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    mode = config.sft.mode
    items = {
        name: read_item(checkpoint, name, shape) for name, shape in _items(shapes, mode).items()
    }
    average = items.pop(_average_item(mode))
    return FinetuneState(average=average, **items), record["iteration"]


def _export(result: Path, config: ConfigDict, parts: Parts, params: Any) -> None:
    """Writes the backbone's folder, with the tokenizer's files of the one it came from."""
    source = {
        "source": "reoac_jax.sft",
        "task": config.task.name,
        "steps": config.sft.steps,
        "mode": config.sft.mode,
        "config_hash": config_hash(config),
    } | derived_source(config.backbone.path)
    tokenizer = tokenizer_files(config.backbone.path)
    save_backbone(
        result, parts.model.config, jax.device_get(params), source=source, tokenizer=tokenizer
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
