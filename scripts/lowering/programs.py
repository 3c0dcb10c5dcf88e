"""The jitted programs of a configuration, traced as the commands would call them."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from lowering.backbones import abstract_parts, longest_problems
from reoac_jax.backbone import lora
from reoac_jax.backbone.interface import ModelConfig
from reoac_jax.backbone.kept import window_widths
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import POLICIES, Policy
from reoac_jax.finetuning.evaluation import pad_prompts
from reoac_jax.finetuning.examples import Examples
from reoac_jax.finetuning.nelbo import NelboProgram
from reoac_jax.finetuning.objective import Answers
from reoac_jax.finetuning.step import Finetuner, FinetuneSettings
from reoac_jax.learning.episodes import replay_episodes
from reoac_jax.learning.experiment import Experiment
from reoac_jax.learning.iteration import update
from reoac_jax.learning.learner import Learner, LearnerState
from reoac_jax.learning.parts import Parts
from reoac_jax.learning.replay import Replay
from reoac_jax.learning.samples import final_relation
from reoac_jax.learning.state import parameter_groups
from reoac_jax.learning.trainable import Lora
from reoac_jax.policy.heads import HeadParams
from reoac_jax.policy.operators import OPERATOR_TYPES
from reoac_jax.policy.options import ROWS
from reoac_jax.rollout import Request, Rollout
from reoac_jax.runs.finite import all_finite
from reoac_jax.tasks import TASKS

MODES = ("lora", "full")


class Case(NamedTuple):
    """A program. forward, backward: passes of the backbone in it, those of a loop counted once.

    casts: its results are parameters, in whatever dtype.
    """

    name: str
    traced: jax.stages.Traced
    forward: int
    backward: int
    casts: bool = False


def programs(config: ConfigDict, sizes: ModelConfig, policies: bool = True) -> Iterator[Case]:
    """Every jitted program of `train`, `sft` and `evaluate` with this configuration.

    All at the longest rows that it allows. policies: every other one that can be evaluated, too.
    """
    parts = abstract_parts(config, sizes)
    experiment = _experiment(config, parts)
    heads = jax.eval_shape(parts.heads.init, experiment.key)
    requests = _requests(experiment, len(experiment.problem_set.encoded.prompt_tokens))
    # A look-ahead predicts for its own rows.
    passes = 1 + experiment.learner.rollout.branch
    rollouts = list(experiment.program.traced(parts.base, heads, experiment.key, requests))
    for traced in rollouts:
        yield Case("rollout", traced, passes, 0)
    episodes = rollouts[0].out_info.rows
    for mode in MODES:
        if mode == "full" and config.backbone.param_dtype == "stored":
            continue  # which is for weights that stay as they are
        yield from _updates(_with(config, "backbone", finetune_mode=mode), parts, episodes)
        yield from _fine_tuning(_with(config, "sft", mode=mode), parts)
    yield _relation(config, parts, episodes)
    yield _nelbo(config, parts)
    if parts.model.keeps_keys:
        yield from _kept_prefix(config, parts, heads, requests)
    if policies:
        if config.heads.reads != "rows":
            yield from _heads_that_see_rows(config, sizes)
        if TASKS[config.task.name].notation is not None:
            yield _notation(config, sizes, passes)
        yield from _critic_that_is_a_backbone(config, sizes, passes)
        yield from _policies(config, parts, heads, requests, passes)


def _with(config: ConfigDict, section: str, **values: Any) -> ConfigDict:
    changed = ConfigDict(config)
    changed[section].update(values)
    return changed


def _once(config: ConfigDict) -> ConfigDict:
    """With one step of each kind that the configuration takes."""
    kinds = ("critic_steps", "actor_steps", "backbone_steps")
    return _with(config, "train", **{kind: min(1, config.train[kind]) for kind in kinds})


def _experiment(config: ConfigDict, parts: Parts) -> Experiment:
    """Without a task: nothing here is graded."""
    problems = longest_problems(config, config.train.episodes_per_iter)
    return Experiment.create(config, parts, None, problems)  # type: ignore[arg-type]


def _requests(experiment: Experiment, count: int) -> list[Request]:
    return [Request.of(experiment.problem_set, i, i) for i in range(count)]


class _TracedLearner:
    """A learner whose steps are traced and not run: they give the state as it was."""

    def __init__(self, learner: Learner):
        self._learner = learner
        self.traced: dict[str, jax.stages.Traced] = {}

    def __getattr__(self, name: str) -> Any:
        step = getattr(Learner, name, None)
        if not hasattr(step, "trace"):
            return getattr(self._learner, name)

        def trace(state: LearnerState, *arguments: Any) -> Any:
            self.traced[name] = step.trace(self._learner, state, *arguments)
            if name == "statistics_step":
                return state
            _, metrics = self.traced[name].out_info
            return state, jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), metrics)

        return trace


def _updates(config: ConfigDict, parts: Parts, episodes: Any) -> Iterator[Case]:
    """What an iteration runs after its rollouts. episodes: their shapes."""
    mode = config.backbone.finetune_mode
    config = _once(config)
    for remat in ("none", "blocks"):
        of_heads = mode == MODES[0] and remat == "none"  # theirs are the same in all
        if not of_heads:
            config = _with(config, "train", critic_steps=0, actor_steps=0)
        experiment = _experiment(_with(config, "backbone", remat=remat), parts)
        learner = experiment.learner
        state = learner.place(jax.eval_shape(learner.init, experiment.key, parts.base))
        traced = _TracedLearner(learner)
        replay = _replay(experiment, episodes)
        update(dataclasses.replace(experiment, learner=traced), state, replay, 0)
        for name, step in traced.traced.items():
            if name.startswith("backbone"):
                forward = 2 if remat == "blocks" else 1
                yield Case(f"{name}, {mode}, remat {remat}", step, forward, 1)
            elif of_heads:
                yield Case(name, step, 0, 0)
    if mode == Lora.name:
        flat = flatten_dict(experiment.base, sep="/")
        matrices = {path: flat[path] for path in state.backbone}
        merge = lora.merged_matrices.trace(
            matrices, state.backbone, 1.0, parts.model.cast_for_compute,
            sharding.placement(matrices),
        )  # fmt: skip
        yield Case(f"merge, {mode}", merge, 0, 0, casts=True)
    groups = parameter_groups(learner, state)
    yield Case(f"are all finite, {mode}", all_finite.trace(groups), 0, 0)


def _heads_that_see_rows(config: ConfigDict, sizes: ModelConfig) -> Iterator[Case]:
    """The heads' steps where they see the rows, whose hidden states are all computed again, and
    the task's notation.

    A batch is as large as what passes through the backbone together: of more the backbone's
    products stand in a loop, and those of the encoder, which is float32 as all of the heads, not,
    so that they would be compared with a part of the work that they belong to.
    """
    config = _with(_once(config), "heads", reads="rows")
    config.train.head_batch = config.rollout.batch_size
    config.heads.rows = {key.rpartition(".")[2]: ROWS[key].default for key in ROWS}
    config.heads.rows.keep_bytes = 0
    config.backbone.finetune_mode = "frozen"
    config.features.notation = TASKS[config.task.name].notation is not None
    parts = abstract_parts(config, sizes)
    experiment = _experiment(config, parts)
    heads = jax.eval_shape(parts.heads.init, experiment.key)
    requests = _requests(experiment, len(experiment.problem_set.encoded.prompt_tokens))
    rollouts = experiment.program.traced(parts.base, heads, experiment.key, requests)
    episodes = next(iter(rollouts)).out_info.rows
    learner = experiment.learner
    state = learner.place(jax.eval_shape(learner.init, experiment.key, parts.base))
    traced = _TracedLearner(learner)
    update(dataclasses.replace(experiment, learner=traced), state, _replay(experiment, episodes), 0)
    for name, step in traced.traced.items():
        yield Case(f"{name}, rows", step, 1, 0)


def _critic_that_is_a_backbone(
    config: ConfigDict, sizes: ModelConfig, passes: int
) -> Iterator[Case]:
    """The rollout with its passes, and its step with all weights and with an overlay."""
    for mode in ("full", "lora"):
        changed = _with(_once(config), "heads", critic="backbone", backbone={"mode": mode})
        changed.train.head_batch = config.rollout.batch_size
        changed.backbone.finetune_mode = "frozen"
        parts = abstract_parts(changed, sizes)
        experiment = _experiment(changed, parts)
        learner = experiment.learner
        state = learner.place(jax.eval_shape(learner.init, experiment.key, parts.base))
        heads = jax.eval_shape(learner.rollout_heads, experiment.base, state.heads)
        requests = _requests(experiment, len(experiment.problem_set.encoded.prompt_tokens))
        rollouts = experiment.program.traced(parts.base, heads, experiment.key, requests)
        traced = next(iter(rollouts))
        if mode == "full":
            yield Case("rollout, critic", traced, 2 * passes, 0)
        steps = _TracedLearner(learner)
        replay = _replay(experiment, traced.out_info.rows)
        update(dataclasses.replace(experiment, learner=steps), state, replay, 0)
        forward = 2 if changed.backbone.remat == "blocks" else 1
        yield Case(f"critic_step, backbone, {mode}", steps.traced["critic_step"], forward, 1)


def _notation(config: ConfigDict, sizes: ModelConfig, passes: int) -> Case:
    """The rollout where the heads see what rows say in the task's notation."""
    config = _with(config, "features", notation=True)
    parts = abstract_parts(config, sizes)
    experiment = _experiment(config, parts)
    heads = jax.eval_shape(parts.heads.init, experiment.key)
    requests = _requests(experiment, len(experiment.problem_set.encoded.prompt_tokens))
    traced = next(iter(experiment.program.traced(parts.base, heads, experiment.key, requests)))
    return Case("rollout, notation", traced, passes, 0)


def _replay(experiment: Experiment, shapes: Any) -> Replay:
    """A buffer of one iteration's episodes, in which every step wrote everything."""
    count = experiment.config.train.episodes_per_iter
    rollout = jax.tree.map(lambda x: np.zeros((count, *x.shape[1:]), x.dtype), shapes)
    steps = rollout.steps
    steps = steps._replace(active=np.ones_like(steps.active), written=np.ones_like(steps.written))
    replay = Replay(experiment.config.train.buffer_size)
    replay.add(
        replay_episodes(
            Rollout(steps, rollout.tokens), experiment.problem_set, range(count),
            np.zeros(count, np.float32), experiment.config, experiment.learner.settings,
        )
    )  # fmt: skip
    return replay


def _fine_tuning(config: ConfigDict, parts: Parts) -> Iterator[Case]:
    mode, sft, mesh = config.sft.mode, config.sft, sharding.make_mesh()
    problems = longest_problems(config, sft.batch_size)
    examples = sharding.split(
        mesh, Examples(*pad_prompts(problems.encoded), problems.encoded.reference)
    )
    settings = FinetuneSettings.from_config(config, problems=10**6)
    pad_id, key = parts.tokenizer.eos_token_id, jax.random.key(0)
    finetuner = Finetuner(parts.training_model(config), pad_id, settings, mesh)
    state = finetuner.place(jax.eval_shape(finetuner.init, key, parts.base))
    base = sharding.replicate(mesh, parts.base) if settings.trainable.keeps_base else None
    step = Finetuner.step.trace(finetuner, state, base, examples, key, np.int32(0))
    forward = 2 if config.backbone.remat == "blocks" else 1
    yield Case(f"fine-tuning step, {mode}", step, forward, 1)


def _relation(config: ConfigDict, parts: Parts, episodes: Any) -> Case:
    longest, temperature = config.rollout.max_prompt_len, config.features.relation_temperature
    prompt, keys = np.zeros(longest, np.int32), np.zeros(longest, bool)
    tokens = jax.ShapeDtypeStruct(episodes.tokens.shape[1:], np.int32)
    traced = final_relation.trace(
        prompt, np.int32(longest), keys, tokens, parts.vocabulary, temperature
    )
    return Case("relation of an episode", traced, 0, 0)


def _nelbo(config: ConfigDict, parts: Parts) -> Case:
    size = config.evaluation.batch_size
    problems = longest_problems(config, size)
    kept = np.full(size, config.rollout.gen_len, np.int32)
    answers = Answers(*pad_prompts(problems.encoded), problems.encoded.reference, kept)
    pad_id, samples = parts.tokenizer.eos_token_id, config.sft.eval_samples
    program = NelboProgram(parts.model, pad_id, sharding.make_mesh(), size, samples, config.seed)
    return Case("nelbo", program.traced(parts.base, answers), 1, 0)


def _kept_prefix(
    config: ConfigDict, parts: Parts, heads: HeadParams, requests: Sequence[Request]
) -> Iterator[Case]:
    """A sampler in eight blocks with the prefix cache: passes over whole rows, and over windows."""
    gen_len, size = config.rollout.gen_len, config.rollout.gen_len // 8
    config = _with(config, "rollout", cache="prefix")
    policy = Policy(f"threshold:block_len={size}", config, parts, sharding.make_mesh())
    batch = requests[: config.evaluation.batch_size]
    for traced in policy.traced(parts.base, heads, jax.random.key(0), batch):
        yield Case(
            "policy threshold, prefix cache", traced, 1 + len(window_widths(gen_len, size)), 0
        )


def _policies(
    config: ConfigDict, parts: Parts, heads: HeadParams, requests: Sequence[Request], passes: int
) -> Iterator[Case]:
    """One batch of each policy; the actor also with positions that are given."""
    requests = requests[: config.evaluation.batch_size]
    given = np.zeros(config.rollout.gen_len, np.int32)
    absent = set(OPERATOR_TYPES) - set(config.operators.names)
    asked = [(name, name, requests) for name in POLICIES if name not in absent]
    filled = [request._replace(given=given) for request in requests]
    asked.append(("actor, infilling", "actor", filled))
    for title, name, batch in asked:
        policy = Policy(name, config, parts, sharding.make_mesh())
        for traced in policy.traced(parts.base, heads, jax.random.key(0), batch):
            # A sampler looks nowhere ahead.
            looks_ahead = hasattr(traced.out_info.rows, "steps") and hasattr(
                traced.out_info.rows.steps, "branched"
            )
            yield Case(f"policy {title}", traced, passes if looks_ahead else 1, 0)
