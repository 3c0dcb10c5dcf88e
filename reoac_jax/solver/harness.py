"""A policy over a backbone as a model of lm-eval, the Language Model Evaluation Harness.

The harness writes the prompts and grades the texts; a `Solver` makes them. Importing this file
registers the model under the name `reoac`, for `lm_eval.simple_evaluate(model="reoac", ...)` as for
`python -m reoac_jax.lm_eval`. It needs the extra `lm-eval`, whose interface this is:
`lm_eval.api.model.LM` of version 0.4.13.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

import reoac_jax
from reoac_jax.config import config_hash
from reoac_jax.devices.compilation import set_up_compilation
from reoac_jax.devices.environment import check_devices
from reoac_jax.evaluation.names import ACTOR
from reoac_jax.solver.solver import Solver
from reoac_jax.system.errors import InputError
from reoac_jax.system.progress import working
from reoac_jax.tasks.prompting import PLAIN, render

NAME = "reoac"
# Settings of a request that are followed, or change nothing: the draw is the policy's.
_KNOWN = {"until", "max_gen_toks", "do_sample", "temperature"}


@register_model(NAME)
class HarnessModel(LM):
    """Answers requests of the kind `generate_until`, and refuses likelihoods.

    A row's text depends on its prompt alone: not on the rows that it is run with, nor on their
    number or order. What is drawn in it derives from the configuration's seed, the prompt, and how
    often the prompt was asked before in the same call (a task's `repeats`).
    """

    def __init__(
        self,
        config: str | None = None,
        checkpoint: str | None = None,
        policy: str = ACTOR,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
        **overrides: Any,
    ):
        """The model arguments.

        Args:
          config, checkpoint, policy: as in `Solver.load`.
          batch_size: rows denoised together on a device. 1, which the harness hands over where
            nothing was said, and None: as in `evaluation.batch_size`.
          max_batch_size, device: of no effect: no batch size is searched for, and `JAX_PLATFORMS`
            chooses the device. The harness hands over "cuda:0" where nothing was said.
          overrides: every other argument is a key of the configuration, `rollout.max_steps=8`.

        Raises:
          InputError: as `Solver.load`.
        """
        super().__init__()
        changes = [f"--config.{key}={value}" for key, value in overrides.items()]
        if batch_size not in (None, 1, "1"):
            changes.append(f"--config.evaluation.batch_size={batch_size}")
        check_devices()
        with working("loading the model"):
            self._solver = Solver.load(checkpoint, config=config, policy=policy, overrides=changes)
        set_up_compilation(self._solver.config.compilation.cache_dir)
        self._policy = policy

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text written for each request, up to the first of its `until` texts.

        Raises `InputError` where a request asks for what a row of `rollout.gen_len` tokens and a
        policy are not, and for a prompt of more than `rollout.max_prompt_len` tokens.
        """
        asked = [request.args for request in requests]
        settings = [self._followed(wanted) for _, wanted in asked]
        prompts = [prompt for prompt, _ in asked]
        with working(f"answering {len(prompts)} requests"):
            answers = self._solver.solve(prompts, prompting=PLAIN, row_ids=row_ids(prompts))
        texts = [
            postprocess_generated_text(answer.text, wanted["until"], None)
            for answer, wanted in zip(answers, settings, strict=True)
        ]
        for arguments, text in zip(asked, texts, strict=True):
            self.cache_hook.add_partial("generate_until", arguments, text)
        return texts

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        """Raises `InputError`: an order of denoising has no likelihood, and the backbone a bound.

        The bound (`sft.py --eval-only --text`) is of whole texts under masks drawn at random; ranks
        of continuations by it would not be those of a likelihood.
        """
        raise InputError(
            "the task asks for log-likelihoods, of which a masked-diffusion model has only a bound;"
            " expected a task of output_type generate_until, such as gsm8k or minerva_math"
        )

    loglikelihood_rolling = loglikelihood

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation in the tokenizer's own template.

        Raises `InputError` unless `task.prompt` is chat: the turn's end would not end the text.
        """
        if self._solver.config.task.prompt != "chat":
            raise InputError(
                "--apply_chat_template is given, but task.prompt is plain; expected task.prompt="
                "chat among the model arguments"
            )
        # An unfinished last turn is the beginning of the answer, which the model goes on with.
        return render(
            self._solver.parts.tokenizer,
            chat_history,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    @property
    def tokenizer_name(self) -> str:
        return str(self._solver.parts.tokenizer.name_or_path)

    def chat_template(self, chat_template: bool | str = False) -> str:
        return str(self._solver.parts.tokenizer.chat_template or "")

    def get_model_info(self) -> dict[str, Any]:
        """What the harness writes beside its results."""
        return {
            "policy": self._policy,
            "base_hash": self._solver.parts.base_hash,
            "config_hash": config_hash(self._solver.config),
            "seed": self._solver.config.seed,
            "reoac_jax": reoac_jax.__version__,
        }

    def _followed(self, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
        """A request's settings under the harness's own names. Raises `InputError`."""
        length = int(self._solver.config.rollout.gen_len)
        settings = normalize_gen_kwargs(dict(wanted), default_max_gen_toks=length)
        if unknown := sorted(settings.keys() - _KNOWN):
            raise InputError(
                f"the task sets {', '.join(unknown)} for generating; expected only until, "
                "max_gen_toks and do_sample=False: --policy and the configuration say the rest"
            )
        if settings["do_sample"]:
            raise InputError(
                "the task asks for drawn tokens (do_sample, temperature); expected --gen_kwargs "
                "do_sample=False: whether tokens are drawn is rollout.sample_strategy's"
            )
        if settings["max_gen_toks"] != length:
            raise InputError(
                f"the task asks for {settings['max_gen_toks']} tokens (max_gen_toks), and a row has"
                f" {length} (rollout.gen_len) from the first step on; expected the same in both: "
                f"--gen_kwargs max_gen_toks={length}, or rollout.gen_len among the model arguments"
            )
        return settings


def row_ids(prompts: Sequence[str]) -> list[int]:
    """A number of 32 bits for each prompt, from its text and how often it has come up so far."""
    seen: Counter[str] = Counter()
    ids = []
    for prompt in prompts:
        ids.append(zlib.crc32(f"{seen[prompt]} {prompt}".encode()))
        seen[prompt] += 1
    return ids
