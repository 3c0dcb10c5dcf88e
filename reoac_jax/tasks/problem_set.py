"""A split of a task, read and encoded."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

from ml_collections import ConfigDict

from reoac_jax.tasks import Problem, Split, Task
from reoac_jax.tasks.encode import Encoded, encode_problems
from reoac_jax.tasks.prompting import Prompting, pad_id
from reoac_jax.tasks.tokenizer import Tokenizer


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
        encoded = encode_problems(
            problems,
            references,
            tokenizer,
            gen_len=config.rollout.gen_len,
            max_prompt_len=config.rollout.max_prompt_len,
            eos_id=tokenizer.eos_token_id,
            pad_id=pad_id(tokenizer),
            prompting=Prompting.create(config.task, tokenizer, task),
        )
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
        counts = (f"{count} {name.replace('_', ' ')}" for name, count in self.truncation.items())
        return ", ".join(counts)

    @property
    def truncation(self) -> dict[str, int]:
        """How many prompts and references did not fit."""
        return {
            "prompts_truncated": self.encoded.prompts_truncated,
            "references_truncated": self.encoded.references_truncated,
        }
