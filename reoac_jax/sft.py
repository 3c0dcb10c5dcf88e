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
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.config import load_config, parse_command_line
from reoac_jax.devices import sharding
from reoac_jax.devices.compilation import set_up_compilation
from reoac_jax.devices.cpu import keep_freed_memory
from reoac_jax.devices.environment import check_devices, set_up_jax
from reoac_jax.devices.streams import RunStream
from reoac_jax.finetuning.evaluation import AnswerEvaluation
from reoac_jax.finetuning.examples import ExampleFile, Examples
from reoac_jax.finetuning.perplexity import evaluate_text
from reoac_jax.finetuning.state import (
    checkpoint_items,
    checkpoint_record,
    export,
    parameter_groups,
    restore_finetuning,
)
from reoac_jax.finetuning.step import (
    Finetuner,
    FinetuneSettings,
    batch_rows,
    check_fit,
    zero_sums,
)
from reoac_jax.learning.parts import load_parts, starting_overlay
from reoac_jax.runs.finite import check_finite
from reoac_jax.runs.folder import run_config, stopped_from_outside
from reoac_jax.runs.session import Session
from reoac_jax.system.background import Ahead
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.progress import working
from reoac_jax.system.shell import shell_command
from reoac_jax.tasks import make_task
from reoac_jax.tasks.problem_set import encoded_split, truncation_in_words

BACKBONE = "backbone"  # the result's folder in the run's


def main(argv: Sequence[str]) -> int:
    keep_freed_memory()
    set_up_jax()
    config, resume, text = _arguments(argv)
    set_up_compilation(config.compilation.cache_dir)
    check_devices()
    if text is not None:
        return evaluate_text(config, text)
    sft, mesh = config.sft, sharding.make_mesh()
    check_fit(config, mesh)
    with Session("sft", resume) as session:
        # ---- Input and model
        with working("loading the backbone"):
            parts = load_parts(config)
        task = session.hold(contextlib.closing(make_task(config.task, config.grader)))
        with working("reading the problems"):
            encoded = encoded_split(task, "train", parts.tokenizer, config)
            problems = session.hold(ExampleFile(encoded))
        print(f"{len(problems)} problems of {task.name}; {truncation_in_words(problems)}")
        settings = FinetuneSettings.from_config(config, len(problems))
        pad_id = parts.tokenizer.eos_token_id
        finetuner = Finetuner(parts.training_model(config), pad_id, settings, mesh)
        key, checkpoint = jax.random.key(config.seed), session.checkpoint
        init_key = jax.random.fold_in(key, RunStream.INIT)
        step_key = jax.random.fold_in(key, RunStream.FINETUNING)
        overlay = starting_overlay(config, parts, sft.mode) if checkpoint is None else None
        state, start = finetuner.place(finetuner.init(init_key, parts.base, overlay)), 0
        if checkpoint is not None:
            state, start = restore_finetuning(checkpoint, parts, finetuner, state)
        # Where all weights are trained the state holds the only copies that are needed.
        base = None
        if settings.trainable.keeps_base:
            base = sharding.place_parameters(mesh, parts.base, config.sharding.fsdp)
        evaluation = AnswerEvaluation.create(config, parts, task, mesh)

        def evaluated() -> dict[str, float]:
            return evaluation(finetuner.params(base, state.average, parts.model.cast_for_compute))

        # ---- Run folder
        session.start(
            config, activity="fine-tuning", unit="step", total=settings.steps, done=start,
            last_line=-1 if checkpoint is None else start, keep_best=0,
        )  # fmt: skip

        def save() -> None:
            check_finite(done, {}, parameter_groups(finetuner, state))
            items = checkpoint_items(finetuner, state)
            session.save(done, done, items, checkpoint_record(config, parts, done))

        def batch(step: int) -> Examples[jax.Array]:
            rows = batch_rows(config.seed, len(problems), sft.batch_size, step)
            return sharding.split(mesh, problems.batch(rows))

        # ---- Loop
        if checkpoint is None:
            first = evaluated()
            session.log(0, first)
            session.note("before: " + _shown(first))
        batches = session.hold(Ahead(batch, range(start, settings.steps)))
        done, since, began, waited = start, start, time.monotonic(), 0.0
        while done < settings.steps and not session.asked:
            asked = time.monotonic()
            examples = next(batches)
            # Ready: the devices had nothing left to do. (JAX's stubs lack the method.)
            if state.sums.steps.is_ready():  # type: ignore[attr-defined]
                waited += time.monotonic() - asked
            state = finetuner.step(state, base, examples, step_key, np.int32(done))
            done += 1

            # ---- Log and checkpoint
            evaluate = done % sft.eval_every == 0 or done == settings.steps
            if evaluate or done % sft.log_every == 0:
                sums = jax.device_get(state.sums)
                values = {
                    "loss": sums.loss / sums.steps,
                    "gradient_norm": sums.gradient_norm / sums.steps,
                    "learning_rate": np.float32(settings.rate(done - 1)),
                    "seconds_per_step": (time.monotonic() - began) / (done - since),
                    "host_seconds_per_step": waited / (done - since),
                }
                check_finite(done, values, parameter_groups(finetuner, state))
                state = state._replace(sums=sharding.replicate(mesh, zero_sums()))
                if evaluate:
                    measured = evaluated()
                    session.note(f"step {done}: " + _shown(measured))
                    values |= measured
                session.log(done, values)
                session.progress(done - since, {"loss": values["loss"]})
                since, began, waited = done, time.monotonic(), 0.0
            if done % sft.checkpoint_every == 0 or done == settings.steps:
                save()
        if session.saved != done:  # stopped between two saves
            save()
        code = session.finish(done)

        # ---- Result
        result = session.run / BACKBONE
        if done == settings.steps:
            if not result.exists():
                with stopped_from_outside(session.run):
                    export(result, config, parts, finetuner.params(base, state.average), done)
            use = shell_command("train", "--config", "FILE", f"--config.backbone.path={result}")
            print(f"done: {result}\nuse it: {use}")
    return code


def _arguments(argv: Sequence[str]) -> tuple[ConfigDict, str | None, str | None]:
    """The configuration, the folder of the run to go on in, and the text to measure, if any."""
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
        return load_config(options.config, overrides), None, options.text
    if overrides or options.eval_only:
        refused = "--eval-only" if options.eval_only else overrides[0]
        raise InputError(f"{refused} is not possible with --resume; expected --resume alone")
    return load_config(run_config(options.resume)), options.resume, None


def _shown(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


if __name__ == "__main__":
    sys.exit(run_command(main))
