"""Samplers as policies."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from reoac_jax.backbone.interface import Denoiser
from reoac_jax.evaluation.policies.interface import Outcome, Running, Surroundings
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout import BatchedProgram, BatchResult, Prompts, RolloutSettings, StepWatcher
from reoac_jax.rollout.program import DenoiseWith
from reoac_jax.samplers import Sampled, Sampler, sample


def prepare_sampler(sampler: Sampler, where: Surroundings) -> Running:
    """A sampler's program; its parameters are the sampler's numbers, so that one program serves
    all of their values. Raises `InputError` where the rule cannot be used."""
    settings = where.settings
    sampler.check(settings)
    steps = sampler.row_steps(settings)
    settings = dataclasses.replace(settings, max_steps=steps, branch=False, rows=False)
    settings = where.in_blocks(settings, sampler.block_len)

    program = sampler_program(
        sampler, where.parts.model, where.parts.vocabulary, settings, where.mesh, where.rows,
        where.on_step,
    )  # fmt: skip
    outcome = outcome_of_samples(np.float32(min(where.settings.costs)))
    return Running(program, numbers_of(sampler), outcome, steps)


def sampler_program(
    sampler: Sampler,
    model: Denoiser,
    vocabulary: Vocabulary,
    settings: RolloutSettings,
    mesh: Mesh,
    rows: int,
    on_step: StepWatcher | None = None,
) -> BatchedProgram:
    """Denoises in the sampler's order; it takes `numbers_of` the sampler, and yields `Sampled`.

    settings: without look-ahead. rows: denoised together on one device. on_step: as in `sample`.
    """

    def run_sampler(
        denoise_with: DenoiseWith,
        numbers: Any,
        prompts: Prompts,
        vocabulary: Vocabulary,
        slots: int,
        count: jax.Array,
    ) -> BatchResult:
        rule = sampler.with_numbers(numbers)
        denoise = denoise_with(rule.draw(settings.draw))
        ends = jnp.asarray(vocabulary.is_eos)
        return BatchResult(*sample(denoise, prompts, settings, rule, ends, slots, count, on_step))

    return BatchedProgram(
        run_sampler, model, vocabulary, settings, mesh, rows, queued=on_step is None
    )


def outcome_of_samples(step_cost: np.float32) -> Callable[[Sampled[np.ndarray]], Outcome]:
    """Of a sampler's results. step_cost: what each of its steps is charged."""

    def outcome(sampled: Sampled[np.ndarray]) -> Outcome:
        cost = sampled.steps.astype(np.float32) * step_cost
        return Outcome(sampled.tokens, cost, sampled.steps, sampled.forward_passes, operators=None)

    return outcome


def numbers_of(sampler: Sampler) -> dict[str, np.float32]:
    """The sampler's numbers as a program takes them."""
    return {name: np.float32(value) for name, value in sampler.numbers.items()}
