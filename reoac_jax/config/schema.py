"""What a configuration may hold: every key outside `task`, its range, and what must agree."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from reoac_jax.system.errors import InputError

Kind = Literal["int", "float", "str", "bool", "ints", "strs"]
_NOUNS = {
    "int": "an integer",
    "float": "a number",
    "str": "a text",
    "bool": "True or False",
    "ints": "a tuple of integers",
    "strs": "a tuple of texts",
}


@dataclasses.dataclass(frozen=True)
class Option:
    """What one key may hold.

    Attributes:
      kind: type; a "float" also takes an integer, "ints" and "strs" are tuples of any length.
      doc: what the key means, in one line.
      choices: the legal values (of each element, in a tuple); None: any.
      low, high: inclusive bounds of a number (of each element, in a tuple); None: unbounded.
    """

    kind: Kind
    doc: str
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None

    @property
    def expected(self) -> str:
        """The legal values in words, as an error message says them."""
        if self.choices is not None:
            listed = ", ".join(str(choice) for choice in self.choices)
            return f"a tuple of {listed}" if self.kind == "strs" else f"one of {listed}"
        noun = _NOUNS[self.kind]
        if self.low is not None and self.high is not None:
            return f"{noun} from {self.low} to {self.high}"
        if self.low is not None:
            return f"{noun}, {self.low} or more"
        if self.high is not None:
            return f"{noun}, {self.high} or less"
        return noun

    def accept(self, value: Any) -> Any:
        """`value` in the kind's own type (float, tuple). Raises `ValueError` if it is not legal."""
        if self.kind in ("ints", "strs"):
            if not isinstance(value, tuple | list):
                raise ValueError(value)
            element = dataclasses.replace(self, kind="int" if self.kind == "ints" else "str")
            return tuple(element.accept(item) for item in value)
        legal_types = {"int": int, "float": int | float, "str": str, "bool": bool}[self.kind]
        if not isinstance(value, legal_types):
            raise ValueError(value)
        if isinstance(value, bool) and self.kind != "bool":
            raise ValueError(value)
        if self.kind == "float":
            try:
                value = float(value)
            except OverflowError:
                raise ValueError(value) from None
            if not math.isfinite(value):
                raise ValueError(value)
        if self.kind == "str" and (not value.strip() or "\0" in value or not is_text(value)):
            raise ValueError(value)
        if self.choices is not None and value not in self.choices:
            raise ValueError(value)
        if self.low is not None and value < self.low or self.high is not None and value > self.high:
            raise ValueError(value)
        return value


def is_text(value: str) -> bool:
    """Whether `value` can be written as UTF-8; bytes that were none come as half characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _int(low: int, high: int | None, doc: str) -> Option:
    return Option("int", doc, low=low, high=high)


def _float(low: float, high: float | None, doc: str) -> Option:
    return Option("float", doc, low=low, high=high)


def _choice(choices: str, doc: str) -> Option:
    return Option("str", doc, choices=tuple(choices.split()))


_DRAW = "sample argmax"
_WIDTHS = Option("ints", "widths of the hidden layers", low=1, high=8192)
_RATE = _float(0.0, 1.0, "AdamW learning rate")
_COST = _float(0.0, 100.0, "cost of a step")
_WINDOW = _int(1, 4096, "positions in the window")
_LAST = _int(1, 4096, "positions selected at most")
_LONGEST_NAME = 255  # bytes, of a folder
_SMALLEST = 1e-4  # of a temperature: below it a softmax of float32 logits overflows

SCHEMA: Mapping[str, Option] = {
    "exp_name": Option("str", "name of the run's folder"),
    "output_dir": Option("str", "folder of all runs"),
    "seed": _int(0, 2**31 - 1, "every random number derives from it"),
    "backbone.path": Option("str", "folder written by convert/mdlm_to_flax.py"),
    "backbone.finetune_mode": _choice("lora full frozen", "what of the backbone is trained"),
    "backbone.dropout": _float(0.0, 0.9, "dropout in the backbone's update"),
    "backbone.compute_dtype": _choice("auto float32 bfloat16", "dtype of the matrix products"),
    "backbone.attention": _choice("auto xla cudnn", "attention kernel"),
    "backbone.remat": _choice("none blocks", "activations the backward pass computes anew"),
    "backbone.tokenizer_source": _choice("mdlm auto", "whose tokenizer"),
    "backbone.tokenizer_path": Option("str", "hub id or folder, read for tokenizer_source mdlm"),
    "lora.rank": _int(1, 1024, "rank of the overlay"),
    "lora.alpha": _float(_SMALLEST, 1e4, "the overlay is scaled by alpha / rank"),
    "lora.dropout": _float(0.0, 0.9, "dropout before the overlay"),
    "lora.targets": Option("strs", "patterns over parameter paths"),
    "lora.adapter": Option("str", "PEFT adapter's folder the overlay starts from, or none"),
    "rollout.max_steps": _int(1, 1024, "denoising steps"),
    "rollout.gen_len": _int(1, 4096, "generated tokens a row"),
    "rollout.max_prompt_len": _int(1, 4096, "prompt tokens kept"),
    "rollout.update_rule": _choice("denoise overwrite", "how selected positions change"),
    "rollout.scope_anchor": _choice("frontier end", "where a window lies"),
    "rollout.sample_strategy": _choice(_DRAW, "how a token is drawn"),
    "rollout.temperature": _float(_SMALLEST, 100.0, "of the token draw"),
    "rollout.selection_mode": _choice(_DRAW, "how an operator is picked"),
    "rollout.ensure_update": Option("bool", "replace an operator that could change nothing"),
    "rollout.fallback_operator": _choice("O_NUM O_OP O_SCOPE O_FAST", "the replacement"),
    "rollout.repair_tokens": _int(0, 4096, "tokens masked again a step, at most"),
    "rollout.repair_threshold": _float(0.0, 1.0, "confidence under which a token is repaired"),
    "rollout.branch_steps": Option("ints", "steps, from 0, at which every row branches", low=0),
    "rollout.branch_k": _int(0, 4, "candidates of a branching step; 0: no branching"),
    "rollout.sigma_schedule": _choice("cosine linear", "noise level over the steps"),
    "rollout.sigma_min": _float(0.0, 1e3, "noise level of the last step"),
    "rollout.sigma_max": _float(0.0, 1e3, "noise level of the first step"),
    "rollout.batch_size": _int(1, 65536, "rows denoised together, per device"),
    "features.relation_temperature": _float(_SMALLEST, 100.0, "of the relation's softmax"),
    "features.use_hidden": Option("bool", "append the mean hidden state"),
    "features.extra_features": Option("bool", "append progress and confidence"),
    "features.operator_preview": Option("bool", "append what each operator would reveal"),
    "operators.O_NUM.max_tokens": _LAST,
    "operators.O_NUM.cost": _COST,
    "operators.O_OP.max_tokens": _LAST,
    "operators.O_OP.cost": _COST,
    "operators.O_SCOPE.scope_len": _WINDOW,
    "operators.O_SCOPE.cost": _COST,
    "operators.O_BRANCH.scope_len": _WINDOW,
    "operators.O_BRANCH.cost": _COST,
    "operators.O_BRANCH.branch_depth": _float(0.0, 100.0, "added to the cost"),
    "operators.O_FAST.scope_len": _WINDOW,
    "operators.O_FAST.step_scale": _float(0.01, 100.0, "factor on the tokens revealed a step"),
    "operators.O_FAST.cost": _COST,
    "operators.O_FAST.extra_cost": _float(0.0, 100.0, "added to the cost"),
    "heads.actor_hidden": _WIDTHS,
    "heads.critic_hidden": _WIDTHS,
    "reward.mode": _choice("strict shaped", "training reward"),
    "reward.cost_lambda": _float(0.0, 100.0, "weight of the step costs in the return"),
    "objective.actor": _choice("soft_q policy_gradient", "what the actor follows"),
    "objective.backbone": _choice("reference generated", "tokens the backbone is led to"),
    "objective.advantage": _choice("group critic", "policy_gradient: of what an episode is worth"),
    "objective.advantage_decay": _float(0.0, 1.0, "advantage critic: lambda of GAE"),
    "objective.soft_q.temperature": _float(_SMALLEST, 1e4, "of softmax(Q / temperature)"),
    "objective.policy_gradient.clip_ratio": _float(_SMALLEST, 10.0, "bound on the ratio"),
    "objective.policy_gradient.entropy_weight": _float(0.0, 10.0, "weight of the entropy"),
    "objective.reference.advantage_positive": Option("bool", "floor the advantage at 0"),
    "objective.reference.advantage_clip": _float(0.0, 1e4, "bound on |advantage|; 0: none"),
    "objective.generated.advantage_positive": Option("bool", "floor the advantage at 0"),
    "objective.generated.advantage_clip": _float(0.0, 1e4, "bound on |advantage|; 0: none"),
    "optimizer.actor_rate": _RATE,
    "optimizer.critic_rate": _RATE,
    "optimizer.backbone_rate": _RATE,
    "optimizer.weight_decay": _float(0.0, 10.0, "of AdamW"),
    "optimizer.gradient_clip": _float(0.0, 1e4, "bound on the global norm; 0: none"),
    "train.iterations": _int(1, 10**7, "rollout and update"),
    "train.episodes_per_iter": _int(1, 10**6, "episodes an iteration"),
    "train.episodes_per_prompt": _int(1, 10**4, "episodes of the same prompt"),
    "train.critic_steps": _int(0, 10**4, "gradient steps an iteration; 0: none"),
    "train.actor_steps": _int(0, 10**4, "gradient steps an iteration; 0: none"),
    "train.backbone_steps": _int(0, 10**4, "gradient steps an iteration; 0: none"),
    "train.head_batch": _int(1, 10**6, "transitions in an actor or critic minibatch"),
    "train.backbone_batch": _int(1, 10**6, "transitions in a backbone minibatch"),
    "train.backbone_accumulate": _int(1, 10**4, "microbatches of a backbone minibatch"),
    "train.buffer_size": _int(1, 10**7, "episodes kept in replay"),
    "sft.mode": _choice("lora full", "what of the backbone supervised fine-tuning trains"),
    "sft.steps": _int(1, 10**8, "gradient steps"),
    "sft.batch_size": _int(1, 10**6, "examples a gradient step"),
    "sft.accumulate": _int(1, 10**4, "microbatches that a gradient step is made of"),
    "sft.learning_rate": _RATE,
    "sft.warmup_steps": _int(0, 10**8, "steps of the rate's linear rise"),
    "sft.final_rate": _float(0.0, 1.0, "share of the rate left at the end of the cosine decay"),
    "sft.weight_decay": _float(0.0, 10.0, "of AdamW, on matrices"),
    "sft.beta2": _float(0.5, 0.99999, "of AdamW"),
    "sft.gradient_clip": _float(0.0, 1e4, "bound on the global norm; 0: none"),
    "sft.ema_decay": _float(0.0, 0.999999, "of the averaged weights, the ones that are kept"),
    "sft.eos_weight": _float(0.0, 1.0, "weight of the eos padding behind an answer's own eos"),
    "sft.short_share": _float(0.0, 1.0, "share of examples whose row ends with the answer's eos"),
    "sft.log_every": _int(1, 10**8, "steps between lines of metrics"),
    "sft.eval_every": _int(1, 10**8, "steps between evaluations"),
    "sft.eval_problems": _int(1, 10**7, "test problems of an evaluation"),
    "sft.eval_samples": _int(1, 10**4, "noise levels for each row of a NELBO estimate"),
    "sft.eval_steps": _int(1, 4096, "steps of the confidence decoding"),
    "sft.checkpoint_every": _int(1, 10**8, "steps between saves"),
    "sharding.fsdp": Option("bool", "split weights and optimiser state over the devices"),
    "distributed.mode": _choice("off auto explicit", "how the processes of a run find each other"),
    "distributed.coordinator": Option("str", "explicit: host:port of process 0"),
    "distributed.processes": _int(1, 65536, "explicit: their number"),
    "distributed.index": _int(0, 65535, "explicit: of this process"),
    "checkpoint.every": _int(1, 10**7, "iterations between saves"),
    "checkpoint.keep_latest": _int(1, 1000, "newest checkpoints kept"),
    "checkpoint.keep_best": _int(0, 1000, "checkpoints of the best mean reward kept"),
    "evaluation.batch_size": _int(1, 65536, "rows denoised together, per device"),
    "evaluation.sample_strategy": _choice(_DRAW, "how a token is drawn"),
    "evaluation.selection_mode": _choice(_DRAW, "how an operator is picked"),
    "evaluation.branch": Option("bool", "branch as in training"),
    "evaluation.block_len": _int(1, 65536, "tokens of a block of the policy blocks"),
    "grader.workers": _int(1, 256, "processes"),
    "grader.timeout": _float(0.1, 3600.0, "seconds an item may take"),
    "compilation.cache_dir": Option("str", "auto, off or a folder for compiled programs"),
    "logging.samples_per_iter": _int(0, 10**6, "episodes written each iteration"),
    "logging.tensorboard": Option("bool", "write TensorBoard event files"),
    "logging.wandb": Option("bool", "send metrics to Weights & Biases"),
}


def check_together(values: Mapping[str, Any]) -> None:
    """Raises `InputError` where keys, each legal alone, do not fit together.

    Args:
      values: a complete flat mapping, `"rollout.max_steps"` to its value, every value legal.
    """
    name = values["exp_name"]
    if name != name.strip() or "/" in name or "\\" in name or name in (".", ".."):
        raise InputError(f"exp_name is {name!r}; expected the name of one folder, without slashes")
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(f"exp_name is {name!r}; expected {_LONGEST_NAME} bytes at most")
    max_steps, branch_steps = values["rollout.max_steps"], values["rollout.branch_steps"]
    if any(step >= max_steps for step in branch_steps):
        raise InputError(
            f"rollout.branch_steps is {branch_steps}; expected steps from 0 to {max_steps - 1},"
            f" for rollout.max_steps is {max_steps} (nothing follows the last one: no look-ahead)"
        )
    if len(set(branch_steps)) < len(branch_steps):
        raise InputError(f"rollout.branch_steps is {branch_steps}; expected each step once")
    low, high = values["rollout.sigma_min"], values["rollout.sigma_max"]
    if low > high:
        raise InputError(f"rollout.sigma_min is {low}; expected at most rollout.sigma_max, {high}")
    if values["backbone.attention"] == "cudnn" and values["backbone.compute_dtype"] == "float32":
        raise InputError(
            "backbone.attention is cudnn and backbone.compute_dtype float32; expected compute_dtype"
            " bfloat16 (all that kernel takes), or attention xla"
        )
    episodes, group = values["train.episodes_per_iter"], values["train.episodes_per_prompt"]
    if episodes % group:
        raise InputError(
            f"train.episodes_per_iter is {episodes};"
            f" expected a multiple of train.episodes_per_prompt, {group}"
        )
    if values["objective.actor"] == "policy_gradient" and group < 2:
        raise InputError(
            f"train.episodes_per_prompt is {group}; expected 2 or more,"
            " for objective.actor policy_gradient compares the episodes of a prompt"
        )
    if (
        values["objective.actor"] == "policy_gradient"
        and values["rollout.selection_mode"] == "argmax"
    ):
        raise InputError(
            "rollout.selection_mode is argmax; expected sample, for objective.actor policy_gradient"
            " needs the probability with which an operator was picked"
        )
    for size, parts in (
        ("sft.batch_size", "sft.accumulate"),
        ("train.backbone_batch", "train.backbone_accumulate"),
    ):
        if values[size] % values[parts]:
            raise InputError(
                f"{size} is {values[size]}; expected a multiple of {parts}, {values[parts]}"
            )
    if values["sft.warmup_steps"] >= values["sft.steps"]:
        raise InputError(
            f"sft.warmup_steps is {values['sft.warmup_steps']};"
            f" expected less than sft.steps, {values['sft.steps']}"
        )
    index, processes = values["distributed.index"], values["distributed.processes"]
    if index >= processes:
        raise InputError(
            f"distributed.index is {index}; expected 0 to {processes - 1},"
            f" for distributed.processes is {processes}"
        )
    coordinator = values["distributed.coordinator"]
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        raise InputError(f"distributed.coordinator is {coordinator!r}; expected HOST:PORT")
    if values["train.buffer_size"] < episodes:
        raise InputError(
            f"train.buffer_size is {values['train.buffer_size']};"
            f" expected at least train.episodes_per_iter, {episodes}"
        )
