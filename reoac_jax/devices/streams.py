"""Every stream of random numbers, in one place: what is folded into which key.

A key is never used twice. What is random derives from a key and a number of one of these
enumerations, by `jax.random.fold_in`, or from a NumPy generator seeded with `[seed, stream, ...]`.
Two numbers may be equal only where their keys differ, or where no command uses both.
"""

import enum


class RunStream(enum.IntEnum):
    """Of the key of `config.seed`."""

    INIT = 0  # first parameters of the heads and of what is trained of the backbone
    ROLLOUT = 1  # training's episodes, each by its number
    DROPOUT = 2  # training's backbone steps, by iteration and step
    EVALUATION = 3
    SOLVE = 4
    FINETUNING = 1  # noqa: PIE796  fine-tuning's steps; it rolls nothing out


class StepStream(enum.IntEnum):
    """Of the key of a row's denoising step."""

    DRAW = 0  # the tokens
    PICK = 1  # the operator
    REVEAL = 2  # the positions, where a sampler draws them


class FinetuningStream(enum.IntEnum):
    """Of the key of a step of supervised fine-tuning."""

    TIME = 0
    MASK = 1
    SHORT = 2
    DROPOUT = 3


class DropoutStream(enum.IntEnum):
    """Of a dropout key, which the trunk takes as it is."""

    HEAD = 1


class HostStream(enum.IntEnum):
    """Of NumPy's generators in training: `[seed, stream, iteration or epoch]`.

    Fine-tuning draws one thing on the host, the order of its examples: `[seed, epoch]`. A task
    that generates its problems has a seed of its own, and says beside it what it adds.
    """

    HEAD_BATCHES = 0
    BACKBONE_BATCHES = 1
    PROMPT_ORDER = 2
    STATISTICS_BATCHES = 3
