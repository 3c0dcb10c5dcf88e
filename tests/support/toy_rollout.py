"""Rollouts of the toy world in every variant; compiled once for all tests."""

import functools

import jax
import numpy as np
from support import toy
from support.toy import UNOPTIMISED

from reoac_jax.backbone.draw import DrawSettings
from reoac_jax.rollout import backbone_denoiser, rollout
from reoac_jax.rollout.settings import Remasking

# One that costs nothing extra is the cheapest, and not the first.
COSTLY = toy.operators(O_NUM={"cost": 9.0}, O_SCOPE={"cost": 5.0}, O_OP={"cost": 4.0})
# Compiling one takes seconds: each has several settings in it, and each setting is in one at least.
VARIANTS = {
    "denoise": {"operators": COSTLY},
    "denoise_mask": {
        "operators": COSTLY, "empty_operator": "mask", "operator_preview": True, "max_steps": 4,
    },
    # The fallback looks for digits, and may find none.
    "denoise_idle": {
        "fallback_operator": 0, "selection_mode": "argmax", "draw": DrawSettings("argmax", 1.0),
        "scope_anchor": "end", "time_conditioned": True,
    },
    "denoise_thresholds": {
        "operators": toy.operators(
            toy.ALL, O_NUM={"threshold": 0.05}, O_SCOPE={"threshold": 0.2},
            O_CONFIDENT={"threshold": 0.1}, O_FAST={"threshold": 0.0},
        ),
        "operator_preview": True, "max_steps": 9, "repair_tokens": 2, "repair_threshold": 0.6,
    },
    "denoise_mask_branch": {
        "empty_operator": "mask", "branch": True, "branch_steps": (1, 2, 4), "branch_k": 4,
        "repair_tokens": 1, "repair_threshold": 0.9, "stop_value": 0.1,
    },
    "mask_of_one_branching_operator": {
        "empty_operator": "mask", "branch": True, "branch_steps": (), "branch_k": 2,
        "operators": toy.operators(("O_NUM", "O_OP", "O_BRANCH")), "fallback_operator": 0,
    },
    "denoise_repair_branch": {
        "branch": True, "branch_steps": (0, 4, 5), "branch_k": 2, "repair_tokens": 1,
        "repair_threshold": 0.9, "extra_features": True,
    },
    "overwrite_mask": {"update_rule": "overwrite", "empty_operator": "mask"},
    "overwrite_branch": {
        "update_rule": "overwrite", "branch": True, "branch_steps": (2,), "operator_preview": True,
        "scope_anchor": "end", "fallback_operator": 4,
    },
    "features_only": {
        "use_hidden": False, "branch": True, "branch_steps": (1,), "time_conditioned": True,
        "draw": DrawSettings("sample", 0.7),
    },
    "remask": {
        "remasking": Remasking(0.05, 0.5, 11), "draw": DrawSettings("argmax", 1.0).for_attempts(),
        "repair_tokens": 1, "repair_threshold": 0.9,
    },
    "remask_everything": {
        "remasking": Remasking(100.0, 1.0, 13), "draw": DrawSettings("sample", 0.7).for_attempts(),
        "stop_value": 0.1, "empty_operator": "mask",
    },
    "critic_backbone": {"filled": True, "use_hidden": False, "repair_tokens": 1},
    "critic_backbone_branch": {
        "filled": True, "branch": True, "branch_steps": (1,), "stop_value": 1.2,
        "time_conditioned": True, "sigma": "schedule", "sigma_schedule": "linear",
    },
    "one_step": {"max_steps": 1, "branch": True, "branch_steps": (0,)},
}  # fmt: skip


# A rollout with everything in it, whose rows are compared bit by bit with those of other batches,
# is compiled as users run it, which takes five times as long as without optimisation.
OPTIMISED = ("denoise_repair_branch",)
INFILLED = ("denoise_repair_branch", "overwrite_branch")  # of some rows a part is given
BATCH = 8
ASKED_WHOLE = 3  # the first rows of the infilled ones


@functools.cache
def world(settings):
    """Backbone, its variables, heads and their parameters."""
    model, params = toy.backbone(1, time_conditioning=settings.time_conditioned, blocks=1)
    return model, {"params": params}, *toy.heads(settings, 4)


def _rollout(model, modules, settings, variables, head_params, prompts, vocabulary):
    denoise = backbone_denoiser(model, variables, settings)
    heads = functools.partial(modules.apply, head_params)
    return rollout(denoise, heads, prompts, vocabulary, settings)[0]


compiled = jax.jit(_rollout, static_argnums=(0, 1, 2))
quickly_compiled = jax.jit(_rollout, static_argnums=(0, 1, 2), compiler_options=UNOPTIMISED)


def run(settings, prompts, program=compiled):
    model, variables, modules, head_params = world(settings)
    vocabulary = toy.vocabulary()
    result = program(model, modules, settings, variables, head_params, prompts, vocabulary)
    return jax.device_get(result)


def _are(settings, names):
    return settings in [toy.rollout_settings(**VARIANTS[name]) for name in names]


def given():
    """Half of most rows' tokens, all of the last one's, nothing of the first ones'."""
    return toy.given(BATCH).at[:ASKED_WHOLE].set(toy.MASK_ID)


def prompts_of(settings, rows=range(BATCH), width=7):
    """Rows of a variant's batch, and others where a row is none of its own."""
    found = toy.prompts(len(rows), width=width, rows=rows)
    if _are(settings, INFILLED):
        found = found._replace(given=given()[np.array(rows) % BATCH])
    return found


def run_rows(settings, **which):
    """The rollout of a variant's `prompts_of`."""
    program = compiled if _are(settings, OPTIMISED) else quickly_compiled
    return run(settings, prompts_of(settings, **which), program)


@functools.cache
def whole_batch(settings):
    return run_rows(settings)
