"""Asking a model questions, and having it fill blanks, from Python.

from reoac_jax.solver import Solver

with Solver.load("runs/tiny/<timestamp>") as solver:
    solver.solve(["8 14 15 = 2 ?", "3 7 12 = 33 ?"])
    solver.infill(["8 14 15 = 2 ? 15 - [MASK] = 7 , 14 / 7 = [MASK] ;"])
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.backbone.store import is_backbone_folder
from reoac_jax.config import load_config
from reoac_jax.devices import sharding
from reoac_jax.devices.streams import RunStream
from reoac_jax.evaluation.policies import ACTOR, Outcome, Policy, heads_of
from reoac_jax.learning.parts import Parts, load_parts, load_trained, load_weights, untrained
from reoac_jax.policy.heads import HeadParams
from reoac_jax.rollout import Request, StepWatcher, in_order
from reoac_jax.runs.checkpoints import find_checkpoint
from reoac_jax.runs.folder import CONFIG, newest_checkpoints
from reoac_jax.solver.infilling import BlankedText, parse_blanks
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import Task, make_task
from reoac_jax.tasks.decode import generated_text
from reoac_jax.tasks.encode import encode_prompts
from reoac_jax.tasks.prompting import Prompting


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was made of one prompt.

    Attributes:
      prompt: as it was given.
      text: what was written; for a text with blanks all of it, filled.
      extracted: the result that the task finds in `text`; None for none.
      blanks: what each blank was filled with; empty for a question.
      steps, forward_passes: denoising steps, and passes through the backbone.
      operators: the operator of each step; None for a sampler.
    """

    prompt: str
    text: str
    extracted: str | None
    blanks: tuple[str, ...]
    steps: int
    forward_passes: int
    operators: tuple[str, ...] | None


class Solver:
    """A policy over a backbone, ready for any number of prompts; they are run in batches.

    Compiles once for each padded prompt length, and for texts with blanks once for each number of
    tokens from the first blank on. Close it, or use it in a `with` statement.
    """

    def __init__(
        self,
        policy: str,
        config: ConfigDict,
        parts: Parts,
        params: Any,
        heads: HeadParams | None,
        task: Task,
        on_step: StepWatcher | None = None,
    ):
        """The pieces as `load` puts them together; heads: None where the policy reads none."""
        self.config, self.parts, self._task = config, parts, task
        self._name, self._on_step = policy, on_step
        # Whoever looks on sees whole batches, in order: one device.
        self._mesh = sharding.make_mesh(jax.local_devices()[:1] if on_step else None)
        self._params = sharding.place_parameters(self._mesh, params, config.sharding.fsdp)
        self._heads = sharding.replicate(self._mesh, heads)
        self._policies: dict[int, Policy] = {}  # by length of the generated region

    @classmethod
    def load(
        cls,
        checkpoint: str | Path | None = None,
        *,
        config: str | Path | None = None,
        policy: str = ACTOR,
        overrides: Sequence[str] = (),
        on_step: StepWatcher | None = None,
    ) -> Self:
        """Loads a model.

        Args:
          checkpoint: a run, its `checkpoints/`, one checkpoint, or a converted backbone folder.
            None: as in an evaluation the newest run of the configuration for the policy "actor",
            its backbone as it is for every other one.
          config: a configuration file; None: the run's.
          policy: as in `--policy`; "actor" needs a checkpoint that has one.
          overrides: `--config.rollout.max_steps=8` and the like.
          on_step: is called from the denoising loop after each step.

        Raises:
          InputError: something of that is not there or does not fit together.
        """
        path = None if checkpoint is None else Path(checkpoint)
        backbone = path if path is not None and is_backbone_folder(path) else None
        if backbone is not None:
            overrides = [f"--config.backbone.path={backbone}", *overrides]
            run, path = backbone.parent, None
        elif path is not None:
            path = find_checkpoint(path)
            run = path.parent.parent
        if config is None:
            config = None if checkpoint is None else run / CONFIG
            if config is None or not config.is_file():
                raise InputError(
                    f"no configuration for {checkpoint or 'the solver'}; expected --config FILE, "
                    "or a checkpoint that lies in the folder of its run"
                )
        values = load_config(config, overrides)
        reads = heads_of(policy)
        if reads == "trained" and (
            backbone is not None or path is not None and not (path / ACTOR).is_dir()
        ):
            raise InputError(
                f"{checkpoint} has no actor; expected --policy with another name, for instance "
                "confidence, or a checkpoint of python -m reoac_jax.train"
            )
        if path is None and reads == "trained":
            path = newest_checkpoints(values)
        parts = load_parts(values)
        params, heads = parts.base, None
        if reads == "trained" and path is not None:
            trained = load_trained(path, parts)
            params, heads = trained.params, trained.heads
        elif path is not None:
            params, _, _ = load_weights(path, parts)
        if reads == "untrained":
            heads = untrained(values, parts).heads
        task = make_task(values.task, values.grader)
        return cls(policy, values, parts, params, heads, task, on_step)

    def solve(
        self,
        prompts: Sequence[str],
        *,
        prompting: Prompting | None = None,
        row_ids: Sequence[int] | None = None,
    ) -> list[Answer]:
        """Answers each prompt with at most `rollout.gen_len` tokens, in order.

        Args:
          prompting: how prompts are written; None: as `config.task` says.
          row_ids: of each prompt the number, 0 to 2**32 - 1, from which all that is random in its
            row derives; None: its place among the prompts.

        Raises:
          InputError: a prompt has no token, or more than `rollout.max_prompt_len`.
        """
        longest = self.config.rollout.max_prompt_len
        requests = []
        tokenizer = self.parts.tokenizer
        if prompting is None:
            prompting = Prompting.create(self.config.task, tokenizer, self._task)
        ids = range(len(prompts)) if row_ids is None else row_ids
        encoded = encode_prompts(prompts, tokenizer, prompting)
        for prompt, row_id, (tokens, keys) in zip(prompts, ids, encoded, strict=True):
            if not 1 <= len(tokens) <= longest:
                raise InputError(
                    f"the question {_short(prompt)} has {len(tokens)} tokens; expected 1 to "
                    f"{longest} (rollout.max_prompt_len)"
                )
            requests.append(Request(np.array(tokens, np.int32), np.array(keys, bool), row_id))
        if not requests:
            return []
        outcome = self._run(requests, self.config.rollout.gen_len)
        special = self.parts.vocabulary.is_special
        texts = [generated_text(row, self.parts.tokenizer, special) for row in outcome.tokens]
        return self._answers(prompts, texts, [()] * len(texts), outcome)

    def infill(self, texts: Sequence[str]) -> list[Answer]:
        """Fills the blanks of each text, `[MASK]` for one token or `[MASK:n]` for n, in order.

        Everything else stays as it is. Raises `InputError` for a text without a blank, or longer
        than the backbone's context.
        """
        spec = self.parts.model.spec
        mask_id, context = spec.mask_id, spec.context
        parsed = [parse_blanks(text, self.parts.tokenizer, mask_id) for text in texts]
        by_length: dict[int, list[int]] = {}
        for place, (text, row) in enumerate(zip(texts, parsed, strict=True)):
            length = len(row.prompt) + len(row.given)
            if length > context:
                raise InputError(
                    f"the text {_short(text)} has {length} tokens; expected at most the backbone's "
                    f"context of {context}"
                )
            by_length.setdefault(len(row.given), []).append(place)
        answers: dict[int, Answer] = {}
        for gen_len, places in by_length.items():
            requests = [
                Request(parsed[i].prompt, parsed[i].key_mask, i, parsed[i].given) for i in places
            ]
            outcome = self._run(requests, gen_len)
            rows = list(zip(places, outcome.tokens, strict=True))
            filled = [self._filled(parsed[place], tokens) for place, tokens in rows]
            blanks = [self._blanks(parsed[place], tokens) for place, tokens in rows]
            some = self._answers([texts[place] for place in places], filled, blanks, outcome)
            answers |= zip(places, some, strict=True)
        return [answers[place] for place in range(len(texts))]

    def close(self) -> None:
        """Ends the task's grading processes, if it has any."""
        self._task.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def max_steps(self, gen_len: int) -> int:
        """Steps that a row of `gen_len` generated tokens takes at most."""
        return self._policy(gen_len).max_steps

    def _policy(self, gen_len: int) -> Policy:
        if gen_len not in self._policies:
            config = ConfigDict(self.config)
            config.rollout.gen_len = gen_len
            self._policies[gen_len] = Policy(
                self._name, config, self.parts, self._mesh, self._on_step
            )
        return self._policies[gen_len]

    def _run(self, requests: Sequence[Request], gen_len: int) -> Outcome:
        key = jax.random.fold_in(jax.random.key(self.config.seed), RunStream.SOLVE)
        return in_order(self._policy(gen_len)(self._params, self._heads, key, requests))

    def _filled(self, text: BlankedText, tokens: np.ndarray) -> str:
        prompt = text.prompt[:0] if text.opens_with_blank else text.prompt
        return self._decode(np.concatenate([prompt, tokens]))

    def _blanks(self, text: BlankedText, tokens: np.ndarray) -> tuple[str, ...]:
        return tuple(self._decode(tokens[start:stop]) for start, stop in text.blanks)

    def _decode(self, tokens: np.ndarray) -> str:
        kept = tokens[~self.parts.vocabulary.is_special[tokens]]
        return str(self.parts.tokenizer.decode(kept, clean_up_tokenization_spaces=False)).strip()

    def _answers(
        self,
        prompts: Sequence[str],
        texts: Sequence[str],
        blanks: Sequence[tuple[str, ...]],
        outcome: Outcome,
    ) -> list[Answer]:
        extracted = self._task.extract(texts)
        answers, names = [], self.config.operators.names
        for row, prompt in enumerate(prompts):
            operators = None
            if outcome.operators is not None:
                acted = outcome.operators[row]
                operators = tuple(names[operator] for operator in acted[acted >= 0])
            answers.append(
                Answer(
                    prompt, texts[row], extracted[row], blanks[row], int(outcome.steps[row]),
                    int(outcome.forward_passes[row]), operators,
                )
            )  # fmt: skip
        return answers


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
