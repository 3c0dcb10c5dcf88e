"""A split of a task, read and encoded."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Protocol

from ml_collections import ConfigDict

from reoac_jax.tasks import Problem, Split, Task
from reoac_jax.tasks.encode import Encoded, encode_problems
from reoac_jax.tasks.prompting import Prompting, pad_id
from reoac_jax.tasks.tokenizer import Tokenizer

_CHUNK = 4096  # problems of a stream that are held at a time


@dataclasses.dataclass(frozen=True)
class ProblemSet:
    """A split of a task as tokens: `problems[i]` is row i of `encoded`."""

    problems: Sequence[Problem]
    references: Sequence[str]
    encoded: Encoded

    @classmethod
    def load(
        cls,
        task: Task,
        split: Split,
        tokenizer: Tokenizer,
        config: ConfigDict,
        limit: int | None = None,
    ) -> "ProblemSet":
        """Reads and encodes a split, or its first `limit` problems. Raises `InputError`."""
        problems = task.problems(split)[:limit]
        references = [task.reference_text(problem) for problem in problems]
        prompting = Prompting.create(config.task, tokenizer, task)
        encoded = _encode(problems, references, tokenizer, config, prompting)
        return cls(problems, references, encoded)

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def hash(self) -> str:
        """SHA-256, in hex, of the problems as given to the model and as graded."""
        digest = hashlib.sha256()
        for problem, tokens in zip(self.problems, self.encoded.prompt_tokens, strict=True):
            row = [problem.id, problem.prompt, problem.target_answer, tokens.tolist()]
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    @property
    def truncation_in_words(self) -> str:
        return truncation_in_words(self.encoded)

    @property
    def truncation(self) -> dict[str, int]:
        """How many prompts and references did not fit."""
        return {
            "prompts_truncated": self.encoded.prompts_truncated,
            "references_truncated": self.encoded.references_truncated,
        }


def encoded_split(
    task: Task, split: Split, tokenizer: Tokenizer, config: ConfigDict
) -> Iterator[Encoded]:
    """A split as tokens, without key tokens, some thousand problems at a time; none is kept here.

    Raises `InputError` where it comes to a problem that cannot be used.
    """
    prompting = Prompting.create(config.task, tokenizer, task)
    problems = task.stream(split)
    while chunk := list(itertools.islice(problems, _CHUNK)):
        references = [task.reference_text(problem) for problem in chunk]
        yield _encode(chunk, references, tokenizer, config, prompting, keys=False)


class Truncated(Protocol):
    """What knows how many prompts and references did not fit."""

    @property
    def prompts_truncated(self) -> int: ...
    @property
    def references_truncated(self) -> int: ...


def truncation_in_words(counted: Truncated) -> str:
    return (
        f"{counted.prompts_truncated} prompts truncated, "
        f"{counted.references_truncated} references truncated"
    )


def _encode(
    problems: Sequence[Problem],
    references: Sequence[str],
    tokenizer: Tokenizer,
    config: ConfigDict,
    prompting: Prompting,
    keys: bool = True,
) -> Encoded:
    return encode_problems(
        problems,
        references,
        tokenizer,
        gen_len=config.rollout.gen_len,
        max_prompt_len=config.rollout.max_prompt_len,
        eos_id=tokenizer.eos_token_id,
        pad_id=pad_id(tokenizer),
        prompting=prompting,
        keys=keys,
    )
