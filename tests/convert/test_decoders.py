"""LLaDA, Dream and Qwen3 through the converters: shards, formats, `--verify`, refusals, PEFT."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from reoac_jax.backbone import load_backbone, lora, read_backbone
from reoac_jax.backbone.peft import Adapter, BaseModel, read_adapter, write_adapter
from reoac_jax.backbone.pytorch_files import find_source, open_source, read_config
from reoac_jax.config import base
from reoac_jax.convert import from_flax, mdlm_to_flax, peft_to_flax, to_flax
from reoac_jax.learning.parts import load_parts
from reoac_jax.system.errors import run_command
from scripts import random_checkpoint

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FAMILIES = ("qwen3", "llada", "dream")


def make(folder, family, *options):
    argv = ["--architecture", family, "--output", str(folder), *options]
    assert random_checkpoint.main(argv) == 0
    return folder


def convert(source, output, *options, code=0):
    argv = ["--source", str(source), "--output", str(output), *options]
    assert run_command(to_flax.main, argv) == code
    return output


def tensors(folder):
    """Every tensor of a published folder, whole or in shards, in its stored format."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_shards_there_and_back_are_bit_identical(tmp_path, family, dtype, capsys):
    options = ("--dtype", dtype, "--shard-bytes", "60000", "--n-blocks", "2")
    source = make(tmp_path / "source", family, *options)
    assert len(list(source.glob("model-*.safetensors"))) > 3
    converted = convert(source, tmp_path / "flax", "--dtype", "stored")
    stored = json.loads((converted / "source.json").read_text())
    assert stored["dtype"] == dtype and len(stored["shards"]) > 3
    back = tmp_path / "back"
    argv = ["--source", str(converted), "--output", str(back), "--shard-bytes", "90000"]
    assert run_command(from_flax.main, argv) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["dtype"] == dtype
    theirs, ours = tensors(source), tensors(back)
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():
        assert value.dtype.name == ours[key].dtype.name == dtype
        assert value.tobytes() == ours[key].tobytes()
    config = json.loads((back / "config.json").read_text())
    assert config == json.loads((source / "config.json").read_text())
    assert config["torch_dtype"] == dtype
    open_source(find_source(str(back)))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_verify_compares_with_transformers(tmp_path, family, capsys):
    convert(GOLDEN / f"{family}_small", tmp_path / "out", "--verify")
    verified = json.loads(capsys.readouterr().out.splitlines()[-1])["verify"]
    assert verified["passed"] and 0 < verified["max_abs_diff_logits"] < 1e-4


def test_verify_takes_16_bit_weights_that_are_not_rounded_again(tmp_path, capsys):
    source = make(tmp_path / "source", "qwen3", "--dtype", "bfloat16")
    convert(source, tmp_path / "same", "--dtype", "stored", "--verify")
    convert(source, tmp_path / "other", "--dtype", "float16", "--verify", code=2)
    assert "does not round" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_shard_that_is_missing_is_named(tmp_path, capsys):
    source = make(tmp_path / "source", "llada", "--shard-bytes", "60000")
    gone = sorted(source.glob("model-*.safetensors"))[1]
    gone.unlink()
    convert(source, tmp_path / "out", code=2)
    assert gone.name in capsys.readouterr().err and not (tmp_path / "out").exists()


def changed(tmp_path, family, change_config=None, change_tensors=None):
    """A golden folder with its config or tensors changed."""
    folder = tmp_path / "changed"
    shutil.copytree(GOLDEN / f"{family}_small", folder)
    values = json.loads((folder / "config.json").read_text()) | (change_config or {})
    (folder / "config.json").write_text(json.dumps(values))
    if change_tensors is not None:
        state = load_file(folder / "model.safetensors")
        change_tensors(state)
        save_file(state, folder / "model.safetensors")
    return folder


def _drop(key):
    return lambda state: state.pop(key)


def _add(key, value):
    return lambda state: state.update({key: value})


@pytest.mark.parametrize(
    "family,config,state,words",
    [
        ("qwen3", None, _drop("model.layers.1.self_attn.q_norm.weight"), "q_norm.weight is"),
        ("llada", None, _drop("model.transformer.ff_out.weight"), "ff_out.weight is missing"),
        ("dream", None, _drop("model.layers.0.self_attn.k_proj.bias"), "k_proj.bias is missing"),
        ("dream", None, _add("model.layers.0.mlp.up_proj.bias", np.zeros(176, np.float32)),
         "unknown key model.layers.0.mlp.up_proj.bias"),
        ("qwen3", None, _add("lm_head.weight", np.zeros((300, 64), np.float32)), "them tied"),
        ("qwen3", {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, None, "causal"),
        ("dream", {"mask_token_id": 300}, None, "expected an id below the embedding's 300 rows"),
        ("llada", {"n_heads": 5}, None, "does not split into n_heads 5"),
        ("qwen3", {"num_hidden_layers": 2}, None, "unknown key model.layers.2"),
        ("llada", None, lambda state: state["model.transformer.wte.weight"].fill(np.inf),
         "NaN or infinity"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, capsys, family, config, state, words):
    folder = changed(tmp_path, family, config, state)
    convert(folder, tmp_path / "out", code=2)
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0] and printed.out == ""
    assert not (tmp_path / "out").exists()


def test_a_tied_head_that_is_in_the_file_all_the_same_is_taken(tmp_path):
    def repeat(state):
        state["lm_head.weight"] = state["model.embed_tokens.weight"].copy()

    convert(changed(tmp_path, "qwen3", None, repeat), tmp_path / "out")
    _, params = read_backbone(tmp_path / "out")
    assert "lm_head" not in params


def test_qwen2_has_dreams_tensors_and_logits_in_their_own_place(tmp_path):
    """`a2d-qwen2`, of which there is no published output here; its forward pass is compared with
    `transformers` in tests/backbone/decoder."""
    config = {"model_type": "a2d-qwen2", "architectures": ["A2DQwen2LMHeadModel"]}
    folder = convert(changed(tmp_path, "dream", config), tmp_path / "out")
    model, _ = load_backbone(folder)
    assert model.config.qkv_bias and not model.config.head_norms and not model.spec.reads_left
    argv = ["--source", str(folder), "--output", str(tmp_path / "back")]
    assert run_command(from_flax.main, argv) == 0
    theirs, ours = tensors(GOLDEN / "dream_small"), tensors(tmp_path / "back")
    assert theirs.keys() == ours.keys()
    assert all(ours[key].tobytes() == value.tobytes() for key, value in theirs.items())


def test_what_is_wrong_in_a_tensor_names_the_shard_that_holds_it(tmp_path, capsys):
    source = make(tmp_path / "source", "dream", "--shard-bytes", "60000")
    shard = sorted(source.glob("model-*.safetensors"))[2]
    good = load_file(shard)
    key, value = next(iter(good.items()))
    spoilt = value.copy()
    spoilt.flat[-1] = np.nan
    for wrong, words in ((spoilt, "holds NaN or infinity"), (value[:-1], "has shape ")):
        save_file(good | {key: wrong}, shard)
        convert(source, tmp_path / "out", code=2)
        assert f"error: {shard}: key {key} {words}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_numbers_beyond_a_formats_range_are_refused(tmp_path, capsys):
    def enlarge(state):
        state["model.norm.weight"][0] = 1e6

    folder = changed(tmp_path, "qwen3", None, enlarge)
    convert(folder, tmp_path / "out", "--dtype", "float16", code=2)
    assert "beyond float16; expected another --dtype" in capsys.readouterr().err


def test_the_mask_of_the_tokenizer_is_kept(tmp_path):
    convert(GOLDEN / "qwen3_small", tmp_path / "out")
    model, _ = load_backbone(tmp_path / "out")
    assert model.spec.mask_id == 297 and model.spec.token_count == 298
    assert json.loads((tmp_path / "out" / "config.json").read_text())["mask_token_id"] == 297


def test_eos_and_padding_of_config_json_end_a_text(tmp_path):
    config = base()
    for ids, ends in (({"eos_token_id": 7, "pad_token_id": 9}, [7, 9]), ({}, [2])):
        folder = changed(tmp_path / str(len(ids)), "qwen3", {"eos_token_id": None} | ids)
        config.backbone.path = str(convert(folder, tmp_path / f"flax{len(ids)}"))
        config.rollout.update(max_prompt_len=32, gen_len=32)
        parts = load_parts(config)
        assert np.flatnonzero(parts.vocabulary.is_eos).tolist() == ends


def test_the_old_name_still_has_its_default_and_the_new_one_none(capsys):
    with pytest.raises(SystemExit) as refusal:
        mdlm_to_flax.main(["--help"])
    printed = "".join(capsys.readouterr().out.split())  # the help breaks lines at hyphens, too
    assert refusal.value.code == 0 and "default:kuleshov-group/mdlm-owt" in printed
    assert run_command(to_flax.main, ["--output", "x"]) == 2
    assert "--source" in capsys.readouterr().err


def _sizes(family):
    folder = GOLDEN / f"{family}_small"
    return read_config(folder / "config.json", find_source(str(folder)).tokenizer)


@pytest.mark.parametrize("base", ["llada", "dream"])
def test_an_adapter_of_another_family_is_refused(tmp_path, capsys, base):
    """By the command, which looks at the names before it merges anything."""
    family = {"llada": "dream", "dream": "llada"}[base]
    kernels = {"a": np.zeros((64, 2), np.float32), "b": np.zeros((2, 64), np.float32)}
    adapter = Adapter({"blocks_0/attn_out/kernel": kernels}, 1.0, 0.0)
    folder = tmp_path / "adapter"
    folder.mkdir()
    write_adapter(folder, _sizes(family), adapter, BaseModel(None, None))
    convert(GOLDEN / f"{base}_small", tmp_path / "base")
    argv = ["--adapter", str(folder), "--base", str(tmp_path / "base")]
    capsys.readouterr()
    assert run_command(peft_to_flax.main, [*argv, "--output", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    theirs, ours = "self_attn.o_proj", "blocks.0.q_proj"
    if base == "dream":
        theirs, ours = "blocks.0.attn_out", "layers.0.self_attn.q_proj"
    assert line.startswith(f"error: {folder}") and f"{theirs}.lora_A.weight is no LoRA" in line
    assert f"{ours}.lora_A.weight" in line.partition("expected keys such as")[2]
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_merged_in_float32_and_rounded_once_if_asked(tmp_path, capsys):
    source = make(tmp_path / "source", "llada", "--dtype", "bfloat16", "--n-blocks", "1")
    folder = convert(source, tmp_path / "base", "--dtype", "stored")
    model, base = read_backbone(folder)
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape, dtype=np.float32) for shape in ((64, 2), (2, 64)))
    adapter = Adapter({"blocks_0/attn_out/kernel": {"a": a, "b": b}}, 0.5, 0.0)
    (tmp_path / "adapter").mkdir()
    write_adapter(tmp_path / "adapter", model, adapter, BaseModel(None, None))
    argv = ["--adapter", str(tmp_path / "adapter"), "--base", str(folder)]
    found = {}
    for name, options in (("float32", []), ("bfloat16", ["--dtype", "stored"])):
        output = tmp_path / name
        assert run_command(peft_to_flax.main, [*argv, "--output", str(output), *options]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["dtype"] == name
        _, params = read_backbone(output, "stored")
        assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {name}
        found[name] = np.asarray(params["blocks_0"]["attn_out"]["kernel"])
        np.testing.assert_array_equal(params["final_norm"]["scale"], base["final_norm"]["scale"])
    before = np.asarray(base["blocks_0"]["attn_out"]["kernel"], np.float64)
    exact = before + 0.5 * (a.astype(np.float64) @ b)
    np.testing.assert_allclose(found["float32"], exact, rtol=1e-6, atol=1e-6)
    assert np.array_equal(found["bfloat16"], found["float32"].astype(found["bfloat16"].dtype))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_has_the_familys_module_names_and_peft_loads_it(tmp_path, family):
    """Against PEFT on `transformers`' class, for the families whose names it shares."""
    convert(GOLDEN / f"{family}_small", tmp_path / "out")
    model, params = load_backbone(tmp_path / "out")
    overlay = lora.init(jax.random.key(0), params, model.lora_targets, 4)
    assert len(overlay) == 4 * model.spec.n_blocks  # q, k, v and out of each block
    rng = np.random.default_rng(0)
    overlay = jax.tree.map(lambda x: rng.standard_normal(x.shape, dtype=np.float32) * 0.1, overlay)
    write_adapter(tmp_path, model.config, Adapter(overlay, 0.5, 0.0), BaseModel(None, None))
    read = read_adapter(tmp_path, model.config)
    assert read.scale == 0.5 and read.overlay.keys() == overlay.keys()
    jax.tree.map(np.testing.assert_array_equal, read.overlay, overlay)
    modules = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    if family == "llada":
        assert "model.transformer.blocks.2.attn_out" in modules
        return
    assert "model.layers.2.self_attn.o_proj" in modules

    import peft

    _, published, _ = open_source(find_source(str(GOLDEN / f"{family}_small")))
    reference = to_flax.architecture(model.config).reference(model.config, published)
    base = reference._model
    assert isinstance(base, transformers.PreTrainedModel)
    peft.PeftModel.from_pretrained(base, str(tmp_path))  # changes its layers in place
    tokens = np.arange(2, 14, dtype=np.int32)[None]
    merged = lora.merge(params, jax.tree.map(np.asarray, overlay), 0.5)
    ours = jax.jit(model.apply)({"params": merged}, tokens, np.array([12], np.int32))
    with torch.inference_mode():
        theirs = reference(torch.from_numpy(tokens).long())
    assert np.abs(ours.logits[0] - theirs.logits[0].numpy()).max() < 1e-4
