"""`samples/*.json`: a few episodes of each iteration, whole, to be read and shown."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reoac_jax.learning.episodes import sample_record
from reoac_jax.learning.experiment import Experiment
from reoac_jax.learning.iteration import Collected
from reoac_jax.policy.features import prompt_context, relation
from reoac_jax.policy.vocabulary import Vocabulary
from reoac_jax.system.files import remove_unfinished, write_text


def write_samples(
    experiment: Experiment, collected: Collected, folder: Path, iteration: int
) -> None:
    """Writes the first `logging.samples_per_iter` episodes as `<iteration>_<episode>.json`."""
    config, parts, rollout = experiment.config, experiment.parts, collected.rollout
    problem_set, longest = experiment.problem_set, config.rollout.max_prompt_len
    encoded = problem_set.encoded
    for episode in range(min(config.logging.samples_per_iter, len(collected.texts))):
        index = collected.indices[episode]
        prompt = encoded.prompt_tokens[index]
        # Padded, so that one program serves every prompt.
        fill = (0, longest - len(prompt))
        matrix: np.ndarray = jax.device_get(
            final_relation(
                np.pad(prompt, fill),
                np.int32(len(prompt)),
                np.pad(encoded.key_mask[index], fill),
                rollout.tokens[episode],
                parts.vocabulary,
                config.features.relation_temperature,
            )
        )[: len(prompt)]  # cut on the host: no program for each length
        record = sample_record(
            rollout, episode, problem_set, index, collected.texts[episode],
            collected.grades[episode], float(collected.returns[episode]), parts.tokenizer,
            config.operators.names, matrix,
        )  # fmt: skip
        write_text(
            folder / f"{iteration:06d}_{episode:03d}.json",
            _a_key_a_line({"iteration": iteration, "episode": episode, **record}),
        )


def _a_key_a_line(record: Mapping[str, Any]) -> str:
    """JSON that a person can still look through; a line for each number would be 20 times as long.

    Raises `ValueError` on NaN.
    """

    def plain(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    lines = []
    for key, value in record.items():
        nested = isinstance(value, list) and value and isinstance(value[0], dict | list)
        items = "[\n" + ",\n".join(f"  {plain(x)}" for x in value) + "]" if nested else plain(value)
        lines.append(f"{plain(key)}: {items}")
    return "{" + ",\n".join(lines) + "}\n"


def remove_samples(folder: Path, first: int) -> None:
    """Removes the samples of iterations from `first` on, as a run does that goes back to there."""
    remove_unfinished(folder)
    for path in folder.glob("*.json"):
        if int(path.name.split("_")[0]) >= first:
            path.unlink()


@functools.partial(jax.jit, static_argnums=5)
def final_relation(
    prompt: jax.Array,
    length: jax.Array,
    key_mask: jax.Array,
    tokens: jax.Array,
    vocabulary: Vocabulary,
    temperature: float,
) -> jax.Array:
    """The relation energies of a prompt `[P]` and the final tokens `[G]`, float32 `[P, G]`."""
    context = prompt_context(prompt, length, key_mask, vocabulary)
    return relation(context, tokens, vocabulary, temperature)
