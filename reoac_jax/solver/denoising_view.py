"""A row as it is denoised, step by step: in colours on a terminal, elsewhere one line a step."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from reoac_jax.system.progress import is_terminal
from reoac_jax.tasks.tokenizer import Tokenizer

_LEAST_SECONDS = 0.15  # that a step stays on the screen
_STYLES = {"given": "", "kept": "cyan", "new": "bold green", "repaired": "yellow", "masked": "dim"}
_MASK, _END = "▁", "∎"


class DenoisingView:
    """Shows the first row of what a denoising loop hands it; a `reoac_jax.rollout.StepWatcher`."""

    def __init__(self, stream: TextIO | None = None):
        """stream: default standard error, so that answers on standard output stay alone."""
        stream = sys.stderr if stream is None else stream
        self._console = Console(file=stream, highlight=False)
        self._terminal = is_terminal(stream)
        self._live: Live | None = None

    @contextlib.contextmanager
    def watching(
        self,
        prompt: str,
        given: np.ndarray,
        tokenizer: Tokenizer,
        mask_id: int,
        max_steps: int,
        operators: Sequence[str],
    ) -> Iterator[None]:
        """The steps that come meanwhile are of this row; its last state is left standing.

        given: int32 `[G]`, the generated region before the first step. operators: their names.
        """
        self._before, self._fixed = given, given != mask_id
        self._prompt, self._max_steps, self._operators = prompt, max_steps, operators
        self._tokenizer, self._mask_id = tokenizer, mask_id
        self._separator, self._shown_at = _separator(tokenizer), 0.0
        if not self._terminal:
            self._console.print(prompt, markup=False, soft_wrap=True)
            yield
            return
        with Live(console=self._console, auto_refresh=False) as self._live:
            self._show(given, f"step 0 of {max_steps}")
            yield
        self._live = None

    def __call__(self, step: np.ndarray, tokens: np.ndarray, operator: np.ndarray | None) -> None:
        if step[0] < 0:
            return
        after = np.asarray(tokens[0])
        headline = f"step {int(step[0]) + 1} of {self._max_steps}"
        if operator is not None:
            headline += f" {self._operators[int(operator[0])]}"
        if self._terminal:
            self._show(after, headline)
        else:
            line = f"{headline}: {self.render(after).plain}"
            self._console.print(line, markup=False, soft_wrap=True)
        self._before = after

    def render(self, tokens: np.ndarray) -> Text:
        """The tokens int32 `[G]`, coloured by what happened to them since the last step."""
        line = Text()
        for place, token in enumerate(tokens.tolist()):
            before = self._before[place]
            if token == self._mask_id:
                state = "masked" if before == self._mask_id else "repaired"
            elif self._fixed[place]:
                state = "given"
            else:
                state = "kept" if before == token else "new"
            if place:
                line.append(self._separator)
            line.append(self._piece(token), _STYLES[state])
        return line

    def _show(self, tokens: np.ndarray, headline: str) -> None:
        time.sleep(max(0.0, self._shown_at + _LEAST_SECONDS - time.monotonic()))
        self._shown_at = time.monotonic()
        lines = Text(self._prompt, "bold"), self.render(tokens), Text(headline, "dim")
        if self._live is not None:
            self._live.update(Group(*lines), refresh=True)

    def _piece(self, token: int) -> str:
        if token == self._mask_id:
            return _MASK
        if token == self._tokenizer.eos_token_id:
            return _END
        return str(self._tokenizer.decode([token], clean_up_tokenization_spaces=False))


def _separator(tokenizer: Tokenizer) -> str:
    """What a decoder puts between tokens: word-level ones a space, subword ones nothing."""
    tokens = tokenizer("1 + 2", add_special_tokens=False)["input_ids"]
    alone = "".join(str(tokenizer.decode([token])) for token in tokens)
    return "" if " " in alone.strip() else " "
