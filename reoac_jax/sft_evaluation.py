"""What fine-tuning reports on test problems: NELBO and the accuracy of confidence decoding."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from reoac_jax import sharding
from reoac_jax.backbone.model import Backbone
from reoac_jax.backbone.prediction import DrawSettings, TokenPrediction, assemble_rows, predict
from reoac_jax.denoising import Answers, noise_level, own_lengths
from reoac_jax.episodes import ProblemSet, generated_text
from reoac_jax.nelbo import NelboProgram
from reoac_jax.samplers import confidence_decode
from reoac_jax.tasks import Task
from reoac_jax.tasks.encode import Encoded
from reoac_jax.trained import Parts


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

    answers: host arrays of all problems, every row at full length. batch_size: rows at a time, on
    all devices.
    """

    parts: Parts
    task: Task
    mesh: Mesh
    problems: ProblemSet
    answers: Answers
    nelbo: NelboProgram
    steps: int
    batch_size: int

    @classmethod
    def create(cls, config: ConfigDict, parts: Parts, task: Task, mesh: Mesh) -> "AnswerEvaluation":
        sft = config.sft
        problems = ProblemSet.load(task, "test", parts.tokenizer, config, sft.eval_problems)
        reference = problems.encoded.reference
        kept = np.full(len(reference), reference.shape[1], np.int32)
        answers = Answers(*pad_prompts(problems.encoded), reference, kept)
        rows = config.evaluation.batch_size
        pad_id = parts.tokenizer.eos_token_id
        nelbo = NelboProgram(parts.model, pad_id, mesh, rows, sft.eval_samples, config.seed)
        size = min(rows * mesh.size, sharding.padded_size(mesh, len(reference)))
        return cls(parts, task, mesh, problems, answers, nelbo, sft.eval_steps, size)

    def __call__(self, params: Any) -> dict[str, float]:
        """nelbo: of whole rows, eos padding included, in nats per token of the answers and their
        first eos. accuracy: strict, of confidence decoding in `steps` steps.
        """
        own = own_lengths(self.answers.answer, self.parts.tokenizer.eos_token_id)
        texts = self.decode(params)
        grades = self.task.grade(texts, self.problems.problems, "strict")
        return {
            "nelbo": float(self.nelbo(params, self.answers).sum() / np.asarray(own).sum()),
            "accuracy": float(np.mean([grade.correct for grade in grades])),
        }

    def decode(self, params: Any) -> list[str]:
        """The text written for each problem."""
        tokenizer, special = self.parts.tokenizer, self.parts.vocabulary.is_special
        model, pad_id = self.parts.model, tokenizer.eos_token_id
        gen_len = self.answers.answer.shape[1]
        texts: list[str] = []
        for start in range(0, len(self.problems), self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch = self.answers.prompt[rows], self.answers.prompt_length[rows]
            batch = sharding.split(self.mesh, sharding.pad_batch(batch, self.batch_size))
            tokens = np.asarray(decode_answers(model, params, *batch, gen_len, pad_id, self.steps))
            kept = tokens[: len(self.answers.prompt[rows])]
            texts += [generated_text(line, tokenizer, special) for line in kept]
        return texts


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def decode_answers(
    model: Backbone,
    params: Any,
    prompt: jax.Array,
    prompt_length: jax.Array,
    gen_len: int,
    pad_id: int,
    steps: int,
) -> jax.Array:
    """Answers int32 `[B, G]` by confidence decoding, each token the most probable one.

    Args:
      prompt: int32 `[B, P]`, right-padded. prompt_length: int32 `[B]`.
    """
    batch = prompt.shape[0]
    variables = {"params": params}
    draw = DrawSettings("argmax", 1.0)
    unread = jnp.zeros((batch, gen_len, 2))  # uniform numbers, which "argmax" does not read

    def proposal(generated: jax.Array, step: jax.Array) -> TokenPrediction:
        rows, lengths = assemble_rows(prompt, prompt_length, generated, pad_id)
        # As in training, sigma follows the share of tokens that are masked.
        t = jnp.full(batch, 1.0 - step / steps)
        modulation = model.apply(variables, noise_level(t), method="modulation")
        return predict(model, variables, modulation, rows, lengths, gen_len, unread, draw).tokens

    masks = jnp.full((batch, gen_len), model.config.mask_id, jnp.int32)
    return confidence_decode(proposal, masks, model.config.mask_id, steps)
