"""A sampler whose answers are checked by the task's own notation, and rewritten where they fail."""

import dataclasses
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from reoac_jax.config.parameters import parameter, parse_member, parse_values
from reoac_jax.evaluation.policies.interface import PolicyType, Running, Surroundings
from reoac_jax.evaluation.policies.sampler import numbers_of, outcome_of_samples
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.rollout import BatchedProgram, BatchResult, Prompts
from reoac_jax.rollout.program import DenoiseWith
from reoac_jax.samplers import SAMPLERS, Sampler
from reoac_jax.samplers.rewriting import CheckFn, sample_checked
from reoac_jax.system.errors import InputError
from reoac_jax.tasks import TASKS, Task
from reoac_jax.tasks.decode import generated_text, prompt_text


@dataclasses.dataclass(frozen=True)
class CheckAndRewrite(PolicyType):
    """A sampler that stops as soon as its proposal checks, and writes anew what does not.

    At each step the row is filled in with what is proposed and read as an answer. If it keeps what
    the prompt and the task's notation demand (countdown: it solves the problem; annotated
    equations: all hold, and the final number is the last result), it is the answer. A row that is
    complete and does not is written anew with drawn tokens (temperature `rollout.temperature`)
    while as many passes are left as the attempt took; where no attempt checks, the first stands.
    The check sees the prompt and never a reference. It is made on the host.

    Parameters that are not its own are the sampler's, and stand behind its name:
    `check_and_rewrite:passes=14,sampler=threshold:threshold=0.95,block_len=0`.
    """

    name: ClassVar[str] = "check_and_rewrite"

    passes: int = parameter(14, "passes of a row at most, in all attempts", low=1, high=4096)
    sampler: str = parameter("threshold", "who writes: a sampler, with its parameters behind it")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "sampler", str(self.rule))

    @property
    def rule(self) -> Sampler:
        """Raises `InputError` where `sampler` names none."""
        return parse_member(self.sampler, SAMPLERS, "sampler")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `check_and_rewrite:sampler=NAME:parameter=value,...,passes=N`. Raises `InputError`."""
        name, _, given = text.partition(":")
        own: list[str] = []
        sampler: list[str] = []
        for item in given.split(","):
            key, _, value = (part.strip() for part in item.partition("="))
            if key == "sampler" and not sampler:
                sampler.append(value)
            elif key in cls.parameters() or not sampler:
                own.append(item)
            else:
                sampler.append(item.strip())
        member, values = parse_values(f"{name}:{','.join(own)}", {cls.name: cls}, "--policy")
        if sampler:
            first, *rest = sampler
            between = "," if ":" in first else ":"
            values["sampler"] = f"{first}{between}{','.join(rest)}" if rest else first
        try:
            return member(**values)
        except InputError as error:
            raise InputError(f"--policy is {text!r}: {error}") from None

    def prepare(self, where: Surroundings) -> Running:
        rule, settings = self.rule, where.settings
        task = TASKS[where.config.task.name]
        if not task.has_notation:
            able = ", ".join(name for name, one in TASKS.items() if one.has_notation)
            raise InputError(
                f"{self}: answers of {task.name} cannot be checked without a reference; expected a "
                f"task with a notation of its own, one of {able}"
            )
        if settings.sees_step:
            raise InputError(
                f"{self}: rollout.sigma is schedule, which knows one attempt; expected masked_share"
            )
        rule.check(settings)
        steps = rule.row_steps(settings)
        settings = dataclasses.replace(settings, max_steps=steps, branch=False, rows=False)
        settings = where.in_blocks(settings, rule.block_len)
        check = make_check(task, where)

        def run_checked(
            denoise_with: DenoiseWith,
            numbers: Any,
            prompts: Prompts,
            vocabulary: Vocabulary,
            slots: int,
            count: jax.Array,
        ) -> BatchResult:
            present = rule.with_numbers(numbers)
            denoise = denoise_with(present.draw(settings.draw).for_attempts())
            ends = jnp.asarray(vocabulary.is_eos)
            return BatchResult(
                *sample_checked(
                    denoise, prompts, settings, present, ends, check, self.passes, slots, count,
                    where.on_step,
                )
            )  # fmt: skip

        program = BatchedProgram(
            run_checked, where.parts.model, where.parts.vocabulary, settings, where.mesh,
            where.rows, queued=where.on_step is None,
        )  # fmt: skip
        outcome = outcome_of_samples(np.float32(min(settings.costs)))
        return Running(program, numbers_of(rule), outcome, self.passes)


def make_check(task: type[Task], where: Surroundings) -> CheckFn:
    """The task's check of rows of tokens, each with the prompt before it."""
    tokenizer = where.parts.tokenizer
    special = np.asarray(where.parts.vocabulary.is_special)

    def check(
        prompts: np.ndarray, lengths: np.ndarray, filled: np.ndarray, wanted: np.ndarray
    ) -> np.ndarray:
        prompts, lengths, filled = (np.asarray(x) for x in (prompts, lengths, filled))
        right = np.zeros(len(filled), bool)
        for row in np.flatnonzero(np.asarray(wanted)):
            prompt = prompt_text(prompts[row, : lengths[row]], tokenizer)
            text = generated_text(filled[row], tokenizer, special)
            right[row] = task.checks(prompt, text)
        return right

    return check
