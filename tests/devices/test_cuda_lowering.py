"""Every jitted program lowered for CUDA, at true widths with two blocks, on a machine without one.

A process of its own lowers, for JAX remembers what it has traced as on a GPU.
"""

import ast
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from reoac_jax.config import load_config
from reoac_jax.evaluation.policies import POLICY_TYPES
from reoac_jax.samplers import SAMPLERS

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
# What is lowered here: one with all policies, the others without. The remaining configurations'
# programs are made of the same parts in other sizes; `python scripts/lower_for_cuda.py` lowers all.
WITH_POLICIES = "gsm8k"
LOWERED = (
    WITH_POLICIES, "gsm8k_original", "gsm8k_qwen3", "gsm8k_dream", "tiny", "mixed_share",
    "mixed_numbers",
)  # fmt: skip
BFLOAT16 = {name for name in CONFIGS if name.startswith(("gsm8k", "math"))}
STORED = {"gsm8k_dream", "gsm8k_llada", "gsm8k_qwen3"}  # whose weights are not trained
BLOCKS = 2
# Keys that change no program that is lowered: whatever is trained, both modes are.
UNSEEN = ("path", "tokenizer_source", "finetune_mode")
# Where the package calls jax.jit, and the program of that name in the script's list.
JITTED = {
    "reoac_jax/convert/to_flax.py:compare": None,  # compares in float32, on the CPU
    "reoac_jax/devices/sharding.py:_moved": None,  # computes nothing
    "reoac_jax/finetuning/nelbo.py:__init__": "nelbo",
    "reoac_jax/finetuning/step.py:step": "fine-tuning step, full",
    "reoac_jax/backbone/lora.py:merged_matrices": "merge, lora",
    "reoac_jax/learning/learner.py:actor_step": "actor_step",
    "reoac_jax/learning/learner.py:backbone_step": "backbone_step, full, remat none",
    "reoac_jax/learning/learner.py:critic_step": "critic_step",
    "reoac_jax/learning/learner.py:statistics_step": "statistics_step, rows",
    "reoac_jax/learning/samples.py:final_relation": "relation of an episode",
    "reoac_jax/rollout/program.py:_compiled_for": "rollout",
    "reoac_jax/runs/finite.py:all_finite": "are all finite, full",
}


def lower(output, names, *options):
    """What is found in each program of these configurations, by configuration and name."""
    command = [sys.executable, "scripts/lower_for_cuda.py", "--blocks", str(BLOCKS), *options]
    command += [f"--config=configs/{name}.py" for name in names]
    cache = {  # of the few small programs that run on the way
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax_tests"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [*command, "--output", str(output)], cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | cache,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: {} for name in names}
    for record in json.loads(output.read_text())["programs"]:
        found[record["config"]][record["program"]] = record
    return found


@pytest.fixture(scope="module")
def lowered(tmp_path_factory):
    """Of each configuration, what was found in its programs, by name."""
    folder = tmp_path_factory.mktemp("lowered")
    others = [name for name in LOWERED if name != WITH_POLICIES]
    return lower(folder / "policies.json", [WITH_POLICIES]) | lower(
        folder / "others.json", others, "--no-policies"
    )


def configured(name):
    return load_config(ROOT / "configs" / f"{name}.py", [])


def choices(config):
    """What decides which parts a configuration's programs have, as pairs of key and value."""
    found = {("operator", name) for name in config.operators.names}
    for section in ("features", "heads", "objective", "rollout", "backbone", "sft", "train"):
        for key, value in config[section].items():
            if isinstance(value, bool | str) and key not in UNSEEN:
                found.add((f"{section}.{key}", value))
            elif isinstance(value, int | tuple):  # a size; but 0 leaves a part out
                found.add((f"{section}.{key}", bool(value)))
    return found


def test_every_choice_is_in_a_configuration_that_is_lowered():
    everywhere = set().union(*(choices(configured(name)) for name in CONFIGS))
    assert everywhere == set().union(*(choices(configured(name)) for name in LOWERED))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", LOWERED)
def test_attention_is_fused_once_a_block_and_pass(lowered, name):
    fused = BLOCKS if name in BFLOAT16 else 0
    counts = {
        program: (record["fused_forward"], record["fused_backward"])
        for program, record in lowered[name].items()
    }
    for mode in ("lora",) if name in STORED else ("lora", "full"):
        assert counts[f"backbone_step, {mode}, remat none"] == (fused, fused)
        assert counts[f"backbone_step, {mode}, remat blocks"] == (2 * fused, fused)
        assert counts[f"fine-tuning step, {mode}"][1] == fused
    assert counts["nelbo"] == (fused, 0)
    # gsm8k_original alone looks ahead: once more in the same turn.
    assert counts["rollout"] == ((2 if name == "gsm8k_original" else 1) * fused, 0)
    if name in STORED:  # whole rows, and windows of one, two, four and eight blocks
        assert counts["policy threshold, prefix cache"] == (5 * fused, 0)
    # mixed_share follows a fixed order and trains no heads; over positions there is no critic.
    heads = {"mixed_share": (), "mixed_numbers": ("actor_step",)}
    expected = heads.get(name, ("critic_step", "actor_step"))
    steps = {step: counts[step] for step in ("critic_step", "actor_step") if step in counts}
    assert steps == dict.fromkeys(expected, (0, 0))


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("name", LOWERED)
def test_no_large_float32_product_is_left(lowered, name):
    records = lowered[name]
    shares = {program: record["largest_float32_share"] for program, record in records.items()}
    assert max(shares.values()) < 0.01, shares
    # Of a block's weights there are four or more, of a float32 program none.
    least = 4 * BLOCKS if name in BFLOAT16 else 0
    for program in ("rollout", "backbone_step, lora, remat none", "fine-tuning step, lora"):
        count = records[program]["bfloat16_products"]
        assert count >= least and (count > 0) == (least > 0)
    if name in BFLOAT16:
        # The heads' products are float32, and those of MDLM's modulation, which decoders have not.
        assert 0 < shares["rollout"]
        assert (0 < shares["backbone_step, lora, remat none"]) == (name not in STORED)
    # Results that are not float32, sums in 16 bits, other arithmetic in 16 bits.
    assert [record["faults"] for record in records.values()] == [[]] * len(records)


@pytest.mark.slow
@pytest.mark.process
def test_every_policy_lowers(lowered):
    found = {name: record["fused_forward"] for name, record in lowered[WITH_POLICIES].items()}
    operators = configured(WITH_POLICIES).operators.names
    for policy in (*POLICY_TYPES, *operators, *SAMPLERS, "actor, infilling"):
        assert found[f"policy {policy}"] == BLOCKS
    assert found["rollout, notation"] == BLOCKS  # its equations are read without a call to the host
    assert found["rollout, critic"] == 2 * BLOCKS  # its own pass beside the policy's
    for mode in ("full", "lora"):
        assert found[f"critic_step, backbone, {mode}"] == 2 * BLOCKS  # its blocks are run again
        assert lowered[WITH_POLICIES][f"critic_step, backbone, {mode}"]["fused_backward"] == BLOCKS
    for step in ("statistics", "critic", "actor"):  # of heads that see rows
        assert found[f"{step}_step, rows"] == BLOCKS


@pytest.mark.slow
@pytest.mark.process
def test_every_jitted_program_is_in_the_list(lowered):
    found = set()
    for path in (ROOT / "reoac_jax").rglob("*.py"):
        where = path.relative_to(ROOT).as_posix()
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    if isinstance(node, ast.Attribute) and ast.unparse(node) == "jax.jit":
                        found.add(f"{where}:{function.name}")
    assert found == set(JITTED), "scripts/lowering/programs.py has to trace it, too"
    assert {name for name in JITTED.values() if name} <= set(lowered["gsm8k"])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_script_knows_the_backbone_of_every_configuration(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from lowering import backbones

    config = load_config(ROOT / "configs" / f"{name}.py")
    assert backbones.backbone_of(config, BLOCKS).n_blocks == BLOCKS


@pytest.fixture
def contents(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from lowering import contents

    return contents


def test_products_calls_and_narrow_arithmetic_are_read(contents):
    """A product stands in a function, called twice, and in a loop's body, which counts once."""

    @jax.jit
    def product(x):
        return jnp.matmul(x, x, preferred_element_type=jnp.float32)

    def program(x):
        once = jax.lax.fori_loop(0, 5, lambda _, y: product(y).astype(y.dtype), x)
        x = x.at[0].set(x[1]).at[2].add(x[3])
        return product(x) + product(once) + product(x.astype(jnp.float32)) + jnp.exp(x)

    x = jax.ShapeDtypeStruct((8, 8), jnp.bfloat16)
    lowered = jax.jit(program).trace(x).lower(lowering_platforms=("cuda",))
    found = contents.read(lowered.compiler_ir("stablehlo"))
    kinds = sorted(item.operands for item in found.products)
    assert kinds == [("bf16", "bf16")] * 3 + [("f32", "f32")]
    assert {item.operations for item in found.products} == {2 * 8**3}
    assert {item.result for item in found.products} == {"f32"}
    assert found.narrow == {"stablehlo.exponential": 1, "stablehlo.add": 1}  # the scatter's
    assert found.forward == found.backward == 0


def test_what_is_wrong_is_named(contents):
    from lower_for_cuda import faults

    out = jax.ShapeDtypeStruct((), jnp.bfloat16)
    case = SimpleNamespace(traced=SimpleNamespace(out_info=out), forward=1, backward=1, casts=False)
    large = contents.Product(("bf16", "bf16"), "f32", 1000, "a x b")
    wide = contents.Product(("bf16", "f32"), "bf16", 10, "c x d")
    found = contents.Contents(3, 1, [large, wide], {"stablehlo.add": 2})
    assert faults(case, found, fused=2) == [
        "3 fused attentions forward; expected 2",
        "1 fused attentions backward; expected 2",
        "a float32 product of 1.0% of the largest: c x d",
        "computed in 16 bits: {'stablehlo.add': 2}",
        "a matrix product whose sum is not float32",
        "results in bfloat16; expected float32",
    ]
    good = contents.Contents(2, 2, [large], {})
    case.traced.out_info = jax.ShapeDtypeStruct((), jnp.float32)
    assert faults(case, good, fused=2) == []


def test_the_kernel_itself_is_asked(contents):
    """What cuDNN's attention refuses raises while it is traced."""
    from lowering.stand_in import cuda_stood_in

    from reoac_jax.backbone.attention import attention

    def fused(width):
        x = jax.ShapeDtypeStruct((2, 24, 4, width), jnp.bfloat16)
        lengths = jax.ShapeDtypeStruct((2,), jnp.int32)
        mixed = jax.jit(lambda x, n: attention(x, x, x, n, "cudnn"))
        return mixed.trace(x, lengths).lower(lowering_platforms=("cuda",))

    with pytest.raises(RuntimeError, match="cuDNN"):
        fused(64)
    with cuda_stood_in():
        assert contents.read(fused(64).compiler_ir("stablehlo")).forward == 1
        with pytest.raises(NotImplementedError, match="head dim"):
            fused(60)


@pytest.fixture
def kernels(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from benchmark import kernels

    return kernels


@pytest.fixture
def workload(kernels):
    """What gpu_check times on a card, at true widths."""
    from gpu_check import SIZES

    size = SIZES["owt"]
    config = dataclasses.replace(size.workload.config, n_blocks=BLOCKS)
    return dataclasses.replace(size, workload=dataclasses.replace(size.workload, config=config))


def test_attention_as_gpu_check_times_it_is_fused(contents, kernels, workload):
    from lowering.stand_in import cuda_stood_in

    config, (lengths, tokens) = workload.workload.config, workload.attention
    with cuda_stood_in():
        assert kernels.kernels_here(config, jnp.bfloat16) == ["xla", "cudnn"]
        for length in lengths:
            shape = (tokens // length, length, config.n_heads, config.head_dim)
            x = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
            real = jax.ShapeDtypeStruct(shape[:1], jnp.int32)
            for kernel, fused in (("cudnn", 1), ("xla", 0)):
                for backward in (False, True):
                    program = kernels.attention_pass(length, kernel, backward)
                    lowered = program.trace(x, x, x, real).lower(lowering_platforms=("cuda",))
                    found = contents.read(lowered.compiler_ir("stablehlo"))
                    assert (found.forward, found.backward) == (fused, fused * backward)


def test_logits_as_gpu_check_times_them_are_bfloat16_products(contents, kernels, workload):
    """As many at a time as were asked for, and the head's product with the whole vocabulary."""
    from benchmark import ours
    from lower_for_cuda import largest_float32_share
    from lowering.stand_in import cuda_stood_in

    workload, sizes = workload.workload, workload.logits
    rows, gen_len, vocab_size = workload.rows, workload.gen_len, workload.config.vocab_size
    with cuda_stood_in():
        model = ours.model_of(workload, "bfloat16")
        example = jnp.zeros((1, 4), jnp.int32), jnp.array([4], jnp.int32)
        params = jax.eval_shape(model.init, jax.random.key(0), *example)["params"]
        params = jax.eval_shape(model.cast_for_compute, params)
        arguments = (
            jax.ShapeDtypeStruct((rows, 128 + gen_len), jnp.int32),
            jax.ShapeDtypeStruct((rows,), jnp.int32),
            jax.ShapeDtypeStruct((rows, gen_len, 2), jnp.float32),
        )
        for size in (min(sizes), max(sizes)):
            with kernels.logits_at_a_time(size):
                traced = ours.forward_pass(model, gen_len).trace(params, *arguments)
            lowered = traced.lower(lowering_platforms=("cuda",))
            found = contents.read(lowered.compiler_ir("stablehlo"))
            assert (found.forward, found.backward) == (BLOCKS, 0)
            assert largest_float32_share(found) < 0.01
            head = 2 * workload.config.hidden_dim * vocab_size
            of_head = [p for p in found.products if p.operations % head == 0]
            together = [p.operations // head for p in of_head if f"x{vocab_size}x" in p.shapes]
            assert together == [pytest.approx(size / vocab_size, rel=0.5)]
