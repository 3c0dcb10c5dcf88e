"""What the model is given for a problem: the problem's text as it is, or a chat of its own kind.

A chat model was trained on conversations: its tokenizer's template says how turns are written, and
a special token ends the model's turn. That token is found by rendering a turn, not by its name.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from reoac_jax.system.errors import InputError
from reoac_jax.tasks.task import Task
from reoac_jax.tasks.tokenizer import Tokenizer

_MARK = "0123456789876543210"  # a text that no template writes itself


class PromptText(NamedTuple):
    """text: what is tokenised. first: where in it the problem's own text begins."""

    text: str
    first: int


@dataclasses.dataclass(frozen=True)
class Prompting:
    """How prompts are written.

    tokenizer: whose chat template writes them; None: the problem's text as it is.
    system: the system turn; none where it is empty, and a template may then write its own.
    examples: pairs of a question and its answer that stand before the problem as earlier turns.
    """

    tokenizer: Tokenizer | None = None
    system: str = ""
    examples: Sequence[tuple[str, str]] = ()

    @classmethod
    def create(cls, settings: ConfigDict, tokenizer: Tokenizer, task: Task) -> "Prompting":
        """What `config.task` asks for; worked examples are the first of the training problems.

        Raises `InputError` where they are too few.
        """
        if settings.prompt == "plain":
            return cls()
        count = settings.worked_examples
        problems = task.problems("train")[:count] if count else []
        if len(problems) < count:
            raise InputError(
                f"task.worked_examples is {count}, but there are {len(problems)} training problems"
            )
        examples = [(problem.prompt, task.reference_text(problem)) for problem in problems]
        system = settings.system_prompt
        return cls(tokenizer, "" if system == "none" else system, tuple(examples))

    @property
    def is_chat(self) -> bool:
        return self.tokenizer is not None

    def text(self, question: str) -> PromptText:
        """What stands before the answer. Raises `InputError` where the template refuses it."""
        if self.tokenizer is None:
            return PromptText(question, 0)
        text = render(self.tokenizer, self._turns(question), add_generation_prompt=True)
        first = len(self._before)
        own = question.strip()  # templates may strip a turn's text
        first += len(text[first:]) - len(text[first:].lstrip())
        if not text.startswith(self._before) or text[first : first + len(own)] != own:
            raise InputError(
                f"the chat template of {self.tokenizer.name_or_path} changes a question's text; "
                "expected it in the prompt as it is"
            )
        return PromptText(text, first)

    def _turns(self, question: str) -> list[dict[str, str]]:
        turns = [{"role": "system", "content": self.system}] if self.system else []
        for asked, answered in self.examples:
            turns.append({"role": "user", "content": asked})
            turns.append({"role": "assistant", "content": answered})
        return [*turns, {"role": "user", "content": question}]

    @functools.cached_property
    def _before(self) -> str:
        """What stands before every question."""
        assert self.tokenizer is not None  # plain prompts have nothing before them
        text = render(self.tokenizer, self._turns(_MARK), add_generation_prompt=True)
        return text.rpartition(_MARK)[0]

    @property
    def joint(self) -> str:
        """What stands between the prompt and its answer."""
        return "" if self.is_chat else " "


PLAIN = Prompting()


def set_up_chat(tokenizer: Tokenizer) -> None:
    """Makes the token that ends a turn the tokenizer's eos; what was eos stays as padding.

    Raises `InputError` where the tokenizer has no chat template, or its turns end without a special
    token.
    """
    if not tokenizer.chat_template:
        raise InputError(
            f"task.prompt is chat, but the tokenizer {tokenizer.name_or_path} has no chat template;"
            " expected one (chat_template.jinja or tokenizer_config.json), or task.prompt plain"
        )
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
    rendered = render(tokenizer, turns, add_generation_prompt=False)
    behind = rendered[rendered.rindex(_MARK) + len(_MARK) :] if _MARK in rendered else ""
    tokens = tokenizer(behind, add_special_tokens=False)["input_ids"] if behind else []
    special = special_ids(tokenizer)
    end = next((token for token in tokens if token in special), None)
    if end is None:
        raise InputError(
            f"the chat template of {tokenizer.name_or_path} ends the assistant's turn without a "
            "special token; expected one such as <|im_end|>"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)


def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids of tokens that are no text: eos and the like, and every added token marked special."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added.union(tokenizer.all_special_ids))


def pad_id(tokenizer: Tokenizer) -> int:
    """The id that stands behind a text that has ended: the tokenizer's padding, else its eos."""
    found = tokenizer.pad_token_id
    return tokenizer.eos_token_id if found is None else found


def end_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids of which the first ends a text: the eos (of a chat, the end of turn) and the padding."""
    return frozenset({tokenizer.eos_token_id, pad_id(tokenizer)})


def render(tokenizer: Tokenizer, turns: list[dict[str, str]], **options: Any) -> str:
    """A conversation in the tokenizer's template. Raises `InputError` where that refuses it."""
    # Models that can think first are asked not to: the answer's length is fixed. Other templates
    # do not read the option.
    try:
        text = tokenizer.apply_chat_template(
            turns, tokenize=False, enable_thinking=False, **options
        )
    except Exception as error:  # a template is a program, and may fail in any way
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"the chat template of {tokenizer.name_or_path} refuses a conversation ({reason}); "
            "expected one that takes system, user and assistant turns, or no task.system_prompt"
        ) from error
    assert isinstance(text, str)  # tokens are for tokenize=True
    return text
