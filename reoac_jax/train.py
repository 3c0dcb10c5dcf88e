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

from ml_collections import ConfigDict

from reoac_jax.config import load_config, parse_command_line
from reoac_jax.devices import processes
from reoac_jax.devices.compilation import set_up_compilation
from reoac_jax.devices.cpu import keep_freed_memory
from reoac_jax.devices.environment import set_up_jax
from reoac_jax.learning.episodes import replay_episodes
from reoac_jax.learning.experiment import Experiment
from reoac_jax.learning.iteration import collect, iteration_metrics, update
from reoac_jax.learning.parts import load_parts
from reoac_jax.learning.replay import Replay
from reoac_jax.learning.samples import remove_samples, write_samples
from reoac_jax.learning.state import (
    checkpoint_items,
    checkpoint_record,
    parameter_groups,
    restore_training,
)
from reoac_jax.runs.finite import check_finite
from reoac_jax.runs.folder import SAMPLES, evaluate_command, run_config
from reoac_jax.runs.session import Session
from reoac_jax.system.errors import InputError, run_command
from reoac_jax.system.interrupt import Interrupted
from reoac_jax.system.progress import working
from reoac_jax.system.shell import shell_command
from reoac_jax.tasks import make_task
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
    config, resume = _arguments(argv)
    set_up_compilation(config.compilation.cache_dir)
    with processes.joined(config), Session("train", resume) as session:
        # ---- Input and model
        with working("loading the backbone"):
            parts = load_parts(config)
        task = session.hold(contextlib.closing(make_task(config.task, config.grader)))
        with working("reading the problems"):
            problem_set = ProblemSet.load(task, "train", parts.tokenizer, config)
        session.say(
            f"{len(problem_set)} problems of {task.name}, {problem_set.truncation_in_words}"
        )
        experiment = Experiment.create(config, parts, task, problem_set)
        learner, replay = experiment.learner, Replay(config.train.buffer_size)
        state, start = experiment.initial_state(resumed=session.checkpoint is not None), 0
        if session.checkpoint is not None:
            state, start = restore_training(session.checkpoint, parts, learner, state, replay)

        # ---- Run folder
        iterations = config.train.iterations
        session.start(
            config, activity="training", unit="iteration", total=iterations, done=start,
            last_line=start - 1, keep_best=config.checkpoint.keep_best,
        )  # fmt: skip
        samples = session.run / SAMPLES
        if processes.is_first():
            remove_samples(samples, start)

        def save() -> None:
            record = checkpoint_record(config, parts, done - 1)
            items = checkpoint_items(learner, state, replay)
            session.save(done, done - 1, items, record, values["reward"])

        # ---- Loop
        done, earned, updated = start, False, time.monotonic()
        for iteration in range(start, iterations):
            before, began = updated, time.monotonic()
            try:
                collected = collect(experiment, state, iteration, session.interrupt)
            except Interrupted:
                break
            replay.add(
                replay_episodes(
                    collected.rollout,
                    problem_set,
                    collected.indices,
                    collected.graded.reward,
                    config,
                    learner.settings,
                )  # fmt: skip
            )
            updating = time.monotonic()
            state, measured = update(experiment, state, replay, iteration)
            check_finite(iteration, measured, parameter_groups(learner, state))
            updated, done = time.monotonic(), iteration + 1

            # ---- Log and checkpoint
            values = measured | iteration_metrics(
                config,
                collected,
                problem_set.truncation,
                updating - began,
                updated - updating,
            )
            # How long they had nothing to do: after the last iteration, and between the two parts.
            values["device_idle_seconds"] = began - before + updating - collected.rolled_out
            session.log(iteration, values)
            if processes.is_first():
                session.background.run(write_samples, experiment, collected, samples, iteration)
            session.progress(1, {name: values[name] for name in _SHOWN if name in values})
            earned = earned or values["reward"] > 0
            if done == min(start + _TRIES, iterations) and not earned:
                session.note(_NOTHING_EARNED)
            if done == iterations or done % config.checkpoint.every == 0:
                save()
            if session.asked:
                break
        if done > start and session.saved != done:  # stopped between two saves
            save()
        code = session.finish(done)
    if done == iterations:
        evaluate = evaluate_command(session.run, config.train.order)
        report = shell_command("report", session.run)
        session.say(f"done: {session.run}\nevaluate it: {evaluate}\nlook at it: {report}")
    return code


def _arguments(argv: Sequence[str]) -> tuple[ConfigDict, str | None]:
    """The configuration, and the folder of the run to go on in, if any."""
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
    return load_config(source, overrides), options.resume


def _only_resumable(overrides: Sequence[str]) -> None:
    for text in overrides:
        if not text.startswith(_RESUMABLE):
            raise InputError(
                f"{text} cannot change on --resume; expected only --config.train.iterations=N, "
                "and the sections distributed and sharding"
            )


if __name__ == "__main__":
    sys.exit(run_command(main))
