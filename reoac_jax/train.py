"""Trains the actor, the critic and, by `finetune_mode`, the backbone.

    python -m reoac_jax.train --config configs/tiny.py [--config.a.b=value ...]
    python -m reoac_jax.train --resume runs/<exp_name>/<timestamp>

Everything random derives from `seed` and the iteration, so a resumed run goes on as it would have.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from reoac_jax.config import load_config, parse_command_line, to_json
from reoac_jax.devices import processes, sharding
from reoac_jax.devices.compilation import set_up_compilation
from reoac_jax.devices.environment import set_up_jax
from reoac_jax.devices.streams import RunStream
from reoac_jax.learning.episodes import replay_episodes
from reoac_jax.learning.iteration import collect, iteration_metrics, update
from reoac_jax.learning.learner import Learner, LearnerSettings
from reoac_jax.learning.parts import Parts, load_parts, starting_overlay
from reoac_jax.learning.replay import Replay
from reoac_jax.learning.samples import remove_samples, write_samples
from reoac_jax.learning.state import (
    checkpoint_items,
    checkpoint_record,
    parameter_groups,
    restore_training,
)
from reoac_jax.rollout import RolloutProgram
from reoac_jax.runs.checkpoints import RunCheckpoints, latest_checkpoint
from reoac_jax.runs.finite import check_finite
from reoac_jax.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    SAMPLES,
    RunLock,
    create_run,
    open_run,
    run_config,
    stopped_from_outside,
)
from reoac_jax.runs.sinks import MetricSinks
from reoac_jax.system.background import Background
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.files import write_json
from reoac_jax.system.host_memory import keep_freed_memory
from reoac_jax.system.interrupt import Interrupt, Interrupted
from reoac_jax.system.progress import ProgressLine, working
from reoac_jax.system.shell import shell_command
from reoac_jax.tasks import Task, make_task
from reoac_jax.tasks.problem_set import ProblemSet

_TRIES = 3  # iterations without any reward after which the user is told
_NOTHING_EARNED = (
    "No episode has earned a reward so far. If the backbone solves none of these problems, there "
    "is nothing to learn from: fine-tune it first with python -m reoac_jax.sft, and name its "
    "result in backbone.path."
)
_SHOWN = ("reward", "accuracy", "cost", "critic_loss", "actor_loss", "backbone_loss")
# What may change when a run goes on: how long it is, and what it runs on.
_RESUMABLE = ("--config.train.iterations=", "--config.distributed.", "--config.sharding.")


def main(argv: Sequence[str]) -> int:
    keep_freed_memory()
    set_up_jax()
    parser = argparse.ArgumentParser(
        prog="python -m reoac_jax.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", help="a configuration file, for instance configs/tiny.py")
    parser.add_argument("--resume", metavar="RUN_DIR", help="go on from a run's last checkpoint")
    options, overrides = parse_command_line(parser, argv)
    if (options.config is None) == (options.resume is None):
        raise InputError("expected one of --config FILE and --resume RUN_DIR")
    if options.resume is not None:
        _only_resumable(overrides)
    source = options.config if options.resume is None else run_config(options.resume)
    config = load_config(source, overrides)
    set_up_compilation(config.compilation.cache_dir)
    with RunLock() as lock, processes.joined(config):
        run = checkpoint = None
        if options.resume is not None:
            run, checkpoint = _reopen(options.resume, lock)

        # ---- Input
        with working("loading the backbone"):
            parts = load_parts(config)
        with contextlib.closing(make_task(config.task, config.grader)) as task:
            with working("reading the problems"):
                problem_set = ProblemSet.load(task, "train", parts.tokenizer, config)
            return _train(config, parts, task, problem_set, lock, run, checkpoint)


def _reopen(path: str, lock: RunLock) -> tuple[Path, Path | None]:
    """A run's folder, locked by the first process, and its latest checkpoint, None if it has none.

    Raises `InputError` if the run is in use or cannot be written, or all checkpoints are damaged.
    """

    def latest() -> str:
        found = latest_checkpoint(open_run(path, lock) / CHECKPOINTS)
        return "" if found is None else str(found)

    checkpoint = processes.broadcast(latest)
    return Path(path), Path(checkpoint) if checkpoint else None


def _train(
    config: ConfigDict,
    parts: Parts,
    task: Task,
    problem_set: ProblemSet,
    lock: RunLock,
    run: Path | None,
    checkpoint: Path | None,
) -> int:
    # ---- Mesh and model
    _check_devices(config)
    mesh, own_mesh = sharding.make_mesh(), sharding.make_mesh(jax.local_devices())
    first = processes.is_first()
    say = print if first else lambda line: None
    say(f"{len(problem_set)} problems of {task.name}, {problem_set.truncation_in_words}")
    key = jax.random.key(config.seed)
    settings = parts.rollout_settings(config)
    learner_settings = LearnerSettings.from_config(config)
    learner = Learner(parts.training_model(config), parts.heads, settings, learner_settings, mesh)
    program = RolloutProgram(
        parts.model, parts.heads, parts.vocabulary, settings, own_mesh, config.rollout.batch_size
    )
    replay = Replay(config.train.buffer_size)
    overlay = None
    if checkpoint is None:
        overlay = starting_overlay(config, parts, config.backbone.finetune_mode)
    init_key = jax.random.fold_in(key, RunStream.INIT)
    state = learner.place(learner.init(init_key, parts.base, overlay))
    start = 0
    if checkpoint is not None:
        state, start = restore_training(checkpoint, parts, state, replay)
    # In mode full the state holds the only copy that is needed.
    full = config.backbone.finetune_mode == "full"
    base = None if full else sharding.replicate(mesh, parts.base)
    merge = jax.jit(learner.rollout_params, out_shardings=sharding.whole(mesh))

    # ---- Run folder: made last, so that a mistake found above leaves nothing behind
    iterations = config.train.iterations
    resumed = run is not None
    if run is None:
        run = Path(processes.broadcast(lambda: str(create_run(config, lock))))
        say(f"run folder {run}")
    else:
        say(f"run folder {run}: going on after {start} of {iterations} iterations")

    def save(iteration: int, reward: float) -> None:
        background.wait()  # a run that goes on from here has all samples before it
        record = checkpoint_record(config, parts, learner_settings, iteration)
        checkpoints.save(iteration, checkpoint_items(state, replay), record, reward)

    # ---- Loop
    with (
        stopped_from_outside(run),
        Interrupt() as interrupt,
        RunCheckpoints(
            run / CHECKPOINTS, config.checkpoint.keep_latest, config.checkpoint.keep_best,
            after=checkpoint,
        ) as checkpoints,
        contextlib.ExitStack() as journal,
        Background() as background,
    ):  # fmt: skip
        if first:
            log = journal.enter_context(MetricSinks(run, config, keep_through=start - 1))
            progress = journal.enter_context(
                ProgressLine(iterations, "training", done=start, unit="iteration")
            )
        if first and resumed:
            write_json(run / CONFIG, to_json(config))  # train.iterations may be another
            remove_samples(run / SAMPLES, start)
        done, saved, earned, stop, updated = start, start, False, 0, time.monotonic()
        for iteration in range(start, iterations):
            before, began = updated, time.monotonic()
            params, heads = sharding.on_own_devices(
                own_mesh, (merge(base, state.backbone), state.heads)
            )
            rollout_key = jax.random.fold_in(key, RunStream.ROLLOUT)
            try:
                collected = collect(
                    config, program, params, heads, rollout_key, problem_set, parts, task,
                    iteration, interrupt,
                )  # fmt: skip
            except Interrupted:
                stop = processes.all_reduce_max(interrupt.exit_code)
                break
            del params, heads
            replay.add(
                replay_episodes(
                    collected.rollout,
                    problem_set,
                    collected.indices,
                    collected.returns,
                    config,
                )
            )
            dropout_key = jax.random.fold_in(jax.random.fold_in(key, RunStream.DROPOUT), iteration)
            updating = time.monotonic()
            state, measured = update(
                config, learner, state, base, replay, dropout_key, mesh, iteration
            )
            check_finite(iteration, measured, parameter_groups(state))
            updated = time.monotonic()

            # ---- Log and checkpoint
            values = measured | iteration_metrics(
                collected, problem_set.truncation, updating - began, updated - updating
            )
            # How long they had nothing to do: after the last iteration, and between the two parts.
            values["device_idle_seconds"] = began - before + updating - collected.rolled_out
            done = iteration + 1
            earned = earned or values["reward"] > 0
            if first:
                log.append(iteration, values)
                background.run(
                    write_samples, run / SAMPLES, iteration, config, collected.rollout,
                    collected.indices[: len(collected.texts)], collected.texts, collected.grades,
                    collected.returns, problem_set, parts,
                )  # fmt: skip
                progress.update(**{name: values[name] for name in _SHOWN if name in values})
                if done == min(start + _TRIES, iterations) and not earned:
                    progress.note(_NOTHING_EARNED)
            if done == iterations or done % config.checkpoint.every == 0:
                save(iteration, values["reward"])
                saved = done
            stop = processes.all_reduce_max(interrupt.exit_code)
            if stop:
                break
        if saved < done:  # stopped between two saves
            save(done - 1, values["reward"])
    # No process leaves, and is missed, before the first has finished the last save.
    stop = processes.all_reduce_max(stop)
    if done < iterations:
        if first:
            print(
                f"stopped after {done} of {iterations} iterations; go on with: "
                f"{shell_command('train', '--resume', run)}",
                file=sys.stderr,
            )
        return stop
    evaluate = shell_command(
        "evaluate", "--config", run / CONFIG, "--checkpoint", run / CHECKPOINTS,
        "--output", run / "evaluation.json",
    )  # fmt: skip
    say(f"done: {run}\nevaluate it: {evaluate}\nlook at it: {shell_command('report', run)}")
    return 0


def _check_devices(config: ConfigDict) -> None:
    """Raises `InputError` where the configuration does not fit the processes there are."""
    if config.sharding.fsdp and config.backbone.finetune_mode != "full":
        raise InputError(
            "sharding.fsdp is True; expected False, or backbone.finetune_mode full, which alone "
            "has weights and an optimiser state worth splitting"
        )
    episodes = config.train.episodes_per_iter
    if episodes < jax.process_count():
        raise InputError(
            f"train.episodes_per_iter is {episodes}; expected at least one for each of the "
            f"{jax.process_count()} processes"
        )


def _only_resumable(overrides: Sequence[str]) -> None:
    for text in overrides:
        if not text.startswith(_RESUMABLE):
            raise InputError(
                f"{text} cannot change on --resume; expected only --config.train.iterations=N, "
                "and the sections distributed and sharding"
            )


if __name__ == "__main__":
    sys.exit(run_command(main))
