"""What refilling the slots of finished rows saves on the tiny configuration, and that it is free
of consequences."""

import jax
import numpy as np
import pytest

from reoac_jax.config import load_config
from reoac_jax.convert.mdlm_to_flax import main as convert
from reoac_jax.devices import sharding
from reoac_jax.evaluation.policies import Policy
from reoac_jax.learning.parts import load_parts
from reoac_jax.rollout import Request, in_order
from reoac_jax.tasks import make_task
from reoac_jax.tasks.problem_set import ProblemSet

PROBLEMS, PLACES = 128, 16


@pytest.fixture(scope="module")
def tiny(configs, tmp_path_factory):
    """Configuration, parts with the bundled backbone, and requests."""
    folder = tmp_path_factory.mktemp("tiny") / "backbone"
    source = configs.parent / "data" / "tiny_mdlm"
    assert convert(["--source", str(source), "--output", str(folder)]) == 0
    overrides = [
        f"--config.backbone.path={folder}",
        "--config.task.train_size=1",
        f"--config.task.test_size={PROBLEMS}",
        f"--config.evaluation.batch_size={PLACES}",
    ]
    config = load_config(configs / "tiny.py", overrides)
    parts = load_parts(config)
    problems = ProblemSet.load(
        make_task(config.task, config.grader), "test", parts.tokenizer, config
    )
    return config, parts, [Request.of(problems, i, i) for i in range(PROBLEMS)]


@pytest.mark.slow
def test_refilled_places_save_passes_and_change_no_answer(tiny):
    """Random operators finish after 5 to 7 steps; a batch of 16 waits for its slowest row."""
    config, parts, requests = tiny
    policy = Policy("random_operator", config, parts, sharding.make_mesh(jax.devices()[:1]))

    def run(chunks):
        before, outcomes = policy.tokens_computed, []
        for chunk in chunks:
            batches = policy(parts.base, None, jax.random.key(1), [requests[i] for i in chunk])
            outcomes.append(in_order(batches))
        outcome = jax.tree.map(lambda *x: np.concatenate(x), *outcomes)
        return outcome, policy.tokens_computed - before

    refilled, cost = run([range(PROBLEMS)])
    waiting, waiting_cost = run(np.arange(PROBLEMS).reshape(-1, PLACES))
    jax.tree.map(np.testing.assert_array_equal, refilled, waiting)
    row_tokens = 8 + config.rollout.gen_len
    assert refilled.forward_passes.sum() * row_tokens <= cost
    print(f"\n{1 - cost / waiting_cost:.1%} of {waiting_cost} tokens saved")
    assert cost < 0.95 * waiting_cost
