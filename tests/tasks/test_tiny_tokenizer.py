"""The bundled word-level tokenizer covers the generated tasks, one number a token."""

import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from transformers import AutoTokenizer

from reoac_jax.tasks import make_task
from reoac_jax.tasks.encode import encode_problems

_ROOT = Path(__file__).parents[2]
_GRADER = ConfigDict(dict(workers=1, timeout=5.0))


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(str(_ROOT / "data" / "tiny_mdlm"))


def test_bundled_files_are_what_the_script_writes():
    script = runpy.run_path(str(_ROOT / "scripts" / "make_tiny_tokenizer.py"))
    bundled = (_ROOT / "data" / "tiny_mdlm" / "tokenizer.json").read_text(encoding="utf-8")
    assert bundled == script["build_tokenizer"]().to_str(pretty=True) + "\n"


def test_special_tokens(tokenizer):
    assert tokenizer.is_fast and len(tokenizer) <= 1200
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert tokenizer.mask_token is None
    assert max(tokenizer.get_vocab().values()) == len(tokenizer) - 1


@pytest.mark.parametrize(
    ("options", "prompt_length", "gen_len"),
    [
        (
            dict(
                name="countdown",
                numbers=3,
                most_numbers=0,
                backwards=False,
                max_number=15,
                max_intermediate=120,
                ordered=True,
                train_part="all",
            ),
            6,
            13,
        ),
        (
            dict(
                name="countdown",
                numbers=6,
                most_numbers=0,
                backwards=False,
                max_number=99,
                max_intermediate=999,
                ordered=False,
                train_part="all",
            ),
            9,
            31,
        ),
        (dict(name="arithmetic", steps=(1, 4), max_number=999, distractors=0.5), None, 32),
    ],
)
def test_answers_survive_tokens(tokenizer, options, prompt_length, gen_len):
    task = make_task(ConfigDict(options | dict(train_size=500, test_size=1, seed=3)), _GRADER)
    problems = task.problems("train")
    references = [task.reference_text(problem) for problem in problems]
    encoded = encode_problems(
        problems, references, tokenizer, gen_len=gen_len, max_prompt_len=128, eos_id=0
    )
    unknown = tokenizer.unk_token_id
    assert not (encoded.reference == unknown).any()
    assert not any((tokens == unknown).any() for tokens in encoded.prompt_tokens)
    assert (encoded.prompts_truncated, encoded.references_truncated) == (0, 0)
    texts = tokenizer.batch_decode(encoded.reference, skip_special_tokens=True)
    assert all(grade.correct for grade in task.grade(texts, problems))
    if prompt_length is not None:
        assert {len(tokens) for tokens in encoded.prompt_tokens} == {prompt_length}
        assert ((encoded.reference != 0).sum(axis=1) == gen_len - 1).all()
        # Everything but the question mark is a number or a sign, so it is key.
        assert all(mask[:-1].all() and not mask[-1] for mask in encoded.key_mask)
