"""What fine-tuning reports on test problems: NELBO and the accuracy of confidence decoding."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from reoac_jax.evaluation.policies import Policy
from reoac_jax.finetuning.nelbo import NelboProgram
from reoac_jax.finetuning.objective import Answers, own_lengths
from reoac_jax.learning.parts import Parts
from reoac_jax.rollout import Request, in_order
from reoac_jax.system.progress import ProgressLine
from reoac_jax.tasks import Task
from reoac_jax.tasks.decode import generated_text
from reoac_jax.tasks.encode import Encoded
from reoac_jax.tasks.problem_set import ProblemSet

_POLICY = "confidence"
_SHOWN_AFTER = 2.0  # seconds


def pad_prompts(encoded: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """Prompts int32 `[N, P]`, padded to the longest, and their lengths int32 `[N]`."""
    lengths = np.array([len(tokens) for tokens in encoded.prompt_tokens], np.int32)
    padded = np.zeros((len(lengths), lengths.max()), np.int32)
    for row, tokens in zip(padded, encoded.prompt_tokens, strict=True):
        row[: len(tokens)] = tokens
    return padded, lengths


@dataclasses.dataclass(frozen=True)
class AnswerEvaluation:
    """Call it with a backbone's parameters.

    answers: host arrays of all problems, every row at full length. policy: writes them.
    """

    parts: Parts
    task: Task
    problems: ProblemSet
    answers: Answers
    nelbo: NelboProgram
    policy: Policy

    @classmethod
    def create(cls, config: ConfigDict, parts: Parts, task: Task, mesh: Mesh) -> "AnswerEvaluation":
        sft = config.sft
        problems = ProblemSet.load(task, "test", parts.tokenizer, config, sft.eval_problems)
        reference = problems.encoded.reference
        kept = np.full(len(reference), reference.shape[1], np.int32)
        answers = Answers(*pad_prompts(problems.encoded), reference, kept)
        pad_id, rows = parts.tokenizer.eos_token_id, config.evaluation.batch_size
        nelbo = NelboProgram(
            parts.model, pad_id, mesh, rows, sft.eval_samples, config.seed, config.sharding.fsdp
        )
        decoding = ConfigDict(config)
        decoding.rollout.max_steps = sft.eval_steps
        decoding.evaluation.sample_strategy = "argmax"
        policy = Policy(_POLICY, decoding, parts, mesh)
        return cls(parts, task, problems, answers, nelbo, policy)

    def __call__(self, params: Any) -> dict[str, float]:
        """nelbo: of whole rows, eos padding included, in nats per token of the answers and their
        first eos. accuracy: strict, of confidence decoding in `sft.eval_steps` steps.
        """
        own = own_lengths(self.answers.answer, self.parts.tokenizer.eos_token_id)
        # Twice the problems: each is decoded and measured.
        with ProgressLine(
            2 * len(self.problems), "evaluating", unit="row", after=_SHOWN_AFTER
        ) as progress:
            texts = self.decode(params, progress.update)
            nats = self.nelbo(params, self.answers, progress.update)
        grades = self.task.grade(texts, self.problems.problems, "strict")
        return {
            "nelbo": float(nats.sum() / np.asarray(own).sum()),
            "accuracy": float(np.mean([grade.correct for grade in grades])),
        }

    def decode(self, params: Any, done: Callable[[int], None] = lambda rows: None) -> list[str]:
        """The text written for each problem, each token the most probable one.

        done: is called with the number of rows that are finished further.
        """
        requests = [Request.of(self.problems, index, index) for index in range(len(self.problems))]
        # Neither heads nor random numbers are read by this policy.
        batches = []
        for indices, outcome in self.policy(params, None, jax.random.key(0), requests):
            batches.append((indices, outcome))
            done(len(indices))
        tokens = in_order(batches).tokens
        special = self.parts.vocabulary.is_special
        return [generated_text(row, self.parts.tokenizer, special) for row in tokens]
