"""NELBO estimates with fixed noise: of a task's answers, and of any text as perplexities are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from reoac_jax.backbone.interface import Denoiser
from reoac_jax.backbone.likelihood import reference_log_probs
from reoac_jax.backbone.noise import noise_level
from reoac_jax.devices import sharding
from reoac_jax.finetuning.objective import Answers, add_noise, denoising_nats
from reoac_jax.system.errors import InputError
from reoac_jax.system.files import looked_in
from reoac_jax.tasks.tokenizer import Tokenizer

_GOLDEN_RATIO = 0.6180339887498949


class NelboProgram:
    """Estimates each row's NELBO from `samples` noise levels; compiles once for each shape.

    The noise of a row depends on the seed and its number only, so that two backbones, or two
    moments of a training, are compared under the same masks.
    """

    def __init__(
        self,
        model: Denoiser,
        pad_id: int,
        mesh: Mesh,
        batch_size: int,
        samples: int,
        seed: int,
        in_parts: bool = False,
    ):
        """batch_size: rows at a time on one device. in_parts: so the parameters lie on the mesh."""
        self._model, self._pad_id, self._mesh = model, pad_id, mesh
        self._batch_size = batch_size * mesh.size
        self._samples, self._seed, self._in_parts = samples, seed, in_parts
        self._run = jax.jit(self._nats)

    def _nats(
        self, params: Any, answers: Answers, rows: jax.Array, t: jax.Array, sample: jax.Array
    ) -> jax.Array:
        """1/t weighted nats, float32 `[B]`, of one noise level for each row."""
        key = jax.random.fold_in(jax.random.key(self._seed), sample)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, rows)
        gen_len = answers.answer.shape[1]
        uniforms = jax.vmap(lambda key: jax.random.uniform(key, (gen_len,)))(keys)
        noised = add_noise(answers, t, uniforms, self._model.spec.mask_id, self._pad_id)
        if self._in_parts:
            params = sharding.gather_parameters(self._mesh, params)
        log_probs = reference_log_probs(
            self._model, {"params": params}, noised.rows, noised.lengths, answers.answer,
            noise_level(t), first=answers.prompt_length, shares=self._mesh.size,
        )  # fmt: skip
        return denoising_nats(log_probs, noised.masked, t, jnp.ones_like(log_probs))

    def __call__(
        self, params: Any, answers: Answers, done: Callable[[int], None] = lambda rows: None
    ) -> np.ndarray:
        """Nats of each row, float64 `[N]`.

        Args:
          params: the backbone's parameters. answers: host arrays of N rows.
          done: is called with the number of rows that are finished further.
        """
        count = len(answers.answer)
        size = self._size(count)
        times = row_times(count, self._samples, self._seed)
        nats = np.zeros(count)
        for start in range(0, count, size):
            rows = slice(start, min(start + size, count))
            part = (
                jax.tree.map(lambda x, rows=rows: x[rows], answers),
                np.arange(rows.start, rows.stop, dtype=np.uint32),
            )
            for sample in range(self._samples):
                batch = sharding.pad_batch((*part, times[rows, sample]), size)
                drawn = self._run(params, *sharding.split(self._mesh, batch), np.uint32(sample))
                nats[rows] += np.asarray(drawn, np.float64)[: rows.stop - rows.start]
            done(rows.stop - rows.start)
        return nats / self._samples

    def traced(self, params: Any, answers: Answers) -> jax.stages.Traced:
        """What a call would run, traced and not compiled; params may be shapes."""
        size = self._size(len(answers.answer))
        part = jax.tree.map(lambda x: x[:size], answers)
        numbers = np.arange(len(part.answer), dtype=np.uint32)
        batch = sharding.pad_batch((part, numbers, np.ones(len(numbers), np.float32)), size)
        return self._run.trace(params, *sharding.split(self._mesh, batch), np.uint32(0))

    def _size(self, count: int) -> int:
        """Rows of a batch, padding included."""
        return min(self._batch_size, sharding.padded_size(self._mesh, count))


def row_times(rows: int, samples: int, seed: int) -> np.ndarray:
    """float32 `[rows, samples]` in (0, 1]: each row's are one from each of `samples` equal parts.

    Where in its part a time lies follows the golden ratio from row to row, so that all rows
    together cover (0, 1] evenly, however many there are.
    """
    offset = np.random.default_rng(seed).random()
    within = 1.0 - (np.arange(rows) * _GOLDEN_RATIO + offset) % 1.0
    return ((np.arange(samples) + within[:, None]) / samples).astype(np.float32)


class TextBlocks(NamedTuple):
    """blocks: int32 `[N, L]`, padded with eos. lengths: int32 `[N]`. documents: their number."""

    blocks: np.ndarray
    lengths: np.ndarray
    documents: int

    def answers(self) -> Answers:
        """Rows without a prompt, every token to be predicted."""
        no_prompt = np.zeros((len(self.blocks), 0), np.int32)
        return Answers(no_prompt, np.zeros_like(self.lengths), self.blocks, self.lengths)


def text_blocks(path: str | Path, tokenizer: Tokenizer, length: int) -> TextBlocks:
    """Cuts a text file as the published OpenWebText numbers do.

    Each document's tokens are followed by eos; all are joined and cut into pieces of `length - 2`,
    each of which stands between bos and eos (the same token in GPT-2). Documents are separated by
    the eos token's text (`<|endoftext|>`) in the file; without one the file is one document. The
    last piece, which published evaluations drop, may be shorter.

    Raises `InputError` for a file that cannot be read, is not UTF-8 or holds no text.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(
            f"cannot read --text {path}{looked_in(path)} ({error.strerror});"
            " expected a file of UTF-8 text"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"--text {path}: byte {error.start + 1} is not UTF-8; expected UTF-8 text"
        ) from None
    # A byte-order mark, of the file or of one that it was put together from, is no text.
    documents = [part.strip("\r\n\ufeff") for part in text.split(tokenizer.eos_token)]
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise InputError(f"--text {path} holds no text; expected at least one document")
    eos = tokenizer.eos_token_id
    bos = eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    tokens: list[int] = []
    for document in documents:
        encoded = tokenizer(document, add_special_tokens=False, verbose=False)
        tokens += [*encoded["input_ids"], eos]
    step = length - 2
    pieces = [[bos, *tokens[i : i + step], eos] for i in range(0, len(tokens), step)]
    lengths = np.array([len(piece) for piece in pieces], np.int32)
    blocks = np.full((len(pieces), max(lengths)), eos, np.int32)
    for block, piece in zip(blocks, pieces, strict=True):
        block[: len(piece)] = piece
    return TextBlocks(blocks, lengths, len(documents))
