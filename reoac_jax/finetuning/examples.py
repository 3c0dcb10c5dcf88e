"""Training examples: token rows in a file on disk, of which a step's batch is read when it is due.

So that memory does not grow with what is trained on: of each example 12 bytes stay there.
"""

import array
import os
import tempfile
from collections.abc import Iterable
from typing import Generic, NamedTuple, Self

import numpy as np

from reoac_jax.backbone.prediction import prompt_width
from reoac_jax.devices.arrays import ArrayT
from reoac_jax.system.errors import InputError
from reoac_jax.tasks.encode import Encoded

_ITEM = np.dtype(np.int32)


class Examples(NamedTuple, Generic[ArrayT]):
    """prompt: int32 `[B, P]`, right-padded. prompt_length: int32 `[B]`, may be 0.

    answer: int32 `[B, G]`, ended and padded with eos.
    """

    prompt: ArrayT
    prompt_length: ArrayT
    answer: ArrayT


class ExampleFile:
    """N examples in a file without a name, which is gone when the process is. Used in a `with`.

    It lies where `TMPDIR` says, else in the system's folder for temporary files. Batches may be
    read in any thread.

    Attributes:
      prompts_truncated, references_truncated: how many did not fit, as `Encoded` counts them.
    """

    def __init__(self, encoded: Iterable[Encoded]):
        """Writes all examples; `encoded` is consumed and not kept.

        Raises `InputError` where the file cannot be written.
        """
        self.prompts_truncated = self.references_truncated = 0
        begins, lengths, written = array.array("q"), array.array("i"), 0
        self._gen_len = 0
        # Without a buffer, so that no write is left to closing it.
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by __exit__
        try:
            for chunk in encoded:
                self.prompts_truncated += chunk.prompts_truncated
                self.references_truncated += chunk.references_truncated
                self._gen_len = chunk.reference.shape[1]
                rows = []
                for tokens, answer in zip(chunk.prompt_tokens, chunk.reference, strict=True):
                    begins.append(written)
                    lengths.append(len(tokens))
                    written += len(tokens) + self._gen_len
                    rows += [tokens, answer]
                _write_all(self._file.fileno(), np.concatenate(rows).astype(_ITEM).tobytes())
        except OSError as error:
            self._file.close()
            raise InputError(
                f"cannot keep {written * _ITEM.itemsize / 1e6:.0f} MB of examples in "
                f"{tempfile.gettempdir()} ({error.strerror}); expected room for them, or TMPDIR to "
                "name a folder with room"
            ) from error
        except BaseException:
            self._file.close()
            raise
        self._begins = np.frombuffer(begins, np.int64)
        self._lengths = np.frombuffer(lengths, np.int32)
        self._longest = int(self._lengths.max())

    def __len__(self) -> int:
        return len(self._lengths)

    def batch(self, rows: np.ndarray) -> Examples[np.ndarray]:
        """The examples of these rows, int `[B]`, as wide as their prompts need.

        The widths are those of `prompt_width`, of which there are few.
        """
        lengths = self._lengths[rows]
        width = min(prompt_width(int(lengths.max())), self._longest)
        prompt = np.zeros((len(rows), width), _ITEM)
        answer = np.empty((len(rows), self._gen_len), _ITEM)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            size = (int(length) + self._gen_len) * _ITEM.itemsize
            begin = int(self._begins[row]) * _ITEM.itemsize
            tokens = np.frombuffer(os.pread(self._file.fileno(), size, begin), _ITEM)
            prompt[place, :length], answer[place] = tokens[:length], tokens[length:]
        return Examples(prompt, lengths, answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _write_all(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]
