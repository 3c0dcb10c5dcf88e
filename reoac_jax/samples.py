"""`samples/*.json`: a few episodes of each iteration, whole, to be read and shown."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from reoac_jax.episodes import ProblemSet, sample_record
from reoac_jax.features import prompt_context, relation
from reoac_jax.files import write_json
from reoac_jax.rollout import Rollout
from reoac_jax.tasks import Grade
from reoac_jax.trained import Parts


def write_samples(
    folder: Path,
    iteration: int,
    config: ConfigDict,
    rollout: Rollout,
    indices: Sequence[int],
    texts: Sequence[str],
    grades: Sequence[Grade],
    problem_set: ProblemSet,
    parts: Parts,
) -> None:
    """Writes the first `logging.samples_per_iter` episodes as `<iteration>_<episode>.json`."""
    vocabulary = parts.vocabulary
    for episode in range(min(config.logging.samples_per_iter, len(indices))):
        index = indices[episode]
        prompt = problem_set.encoded.prompt_tokens[index]
        context = prompt_context(
            prompt, np.int32(len(prompt)), problem_set.encoded.key_mask[index], vocabulary
        )
        matrix = relation(
            context, rollout.tokens[episode], vocabulary, config.features.relation_temperature
        )
        record = sample_record(
            rollout, episode, problem_set.problems[index], problem_set.references[index],
            texts[episode], grades[episode], parts.tokenizer, jax.device_get(matrix),
        )  # fmt: skip
        write_json(folder / f"{iteration:06d}_{episode:03d}.json", dict(record))
