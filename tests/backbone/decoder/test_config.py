"""What is read of a decoder's `config.json` and tokenizer, and every refusal."""

import json
from pathlib import Path

import pytest

from reoac_jax.backbone.architectures import architecture, architecture_of
from reoac_jax.backbone.published import parameter_count
from reoac_jax.backbone.tokenizer_ids import read_tokenizer_ids
from reoac_jax.system.errors import InputError

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
TOKENIZER = [GOLDEN / "qwen3_small" / name for name in ("tokenizer.json", "tokenizer_config.json")]


def published(family):
    return json.loads((GOLDEN / f"{family}_small" / "config.json").read_text())


def read(values, tokenizer=TOKENIZER):
    return architecture_of(values, "config.json").read_config(values, "config.json", tokenizer)


def refusal(values, tokenizer=TOKENIZER):
    with pytest.raises(InputError) as caught:
        read(values, tokenizer)
    message = str(caught.value)
    assert message.startswith("config.json") and "\n" not in message and "expected" in message
    return message


READ = {
    "llada": (
        "d_model", "n_heads", "n_layers", "n_kv_heads", "mlp_hidden_size", "vocab_size",
        "embedding_size", "max_sequence_length", "rope_theta", "rope_full_precision",
        "rms_norm_eps", "weight_tying", "block_type", "layer_norm_type", "activation_type",
        "alibi", "rope", "attention_layer_norm", "input_emb_norm", "scale_logits",
        "block_group_size", "include_bias", "include_qkv_bias", "bias_for_layer_norm",
        "layer_norm_with_affine", "multi_query_attention",
    ),
    "dream": (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "tie_word_embeddings",
        "max_position_embeddings", "hidden_act", "rope_theta",
    ),
    "qwen3": (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "tie_word_embeddings",
        "max_position_embeddings", "hidden_act", "rope_theta", "head_dim", "attention_bias",
    ),
}  # fmt: skip


@pytest.mark.parametrize("family,key", [(f, key) for f, keys in READ.items() for key in keys])
def test_a_missing_key_is_refused_by_name(family, key):
    values = published(family)
    del values[key]
    assert f"no key '{key}'" in refusal(values)


@pytest.mark.parametrize(
    "family,changed",
    [
        ("llada", {"block_type": "sequential"}),
        ("llada", {"layer_norm_type": "default"}),
        ("llada", {"activation_type": "swiglu"}),
        ("llada", {"alibi": True}),
        ("llada", {"rope": False}),
        ("llada", {"attention_layer_norm": True}),
        ("llada", {"input_emb_norm": True}),
        ("llada", {"scale_logits": True}),
        ("llada", {"block_group_size": 2}),
        ("llada", {"include_qkv_bias": True}),
        ("llada", {"multi_query_attention": True}),
        ("dream", {"hidden_act": "gelu"}),
        ("dream", {"use_sliding_window": True}),
        ("dream", {"use_mrope": True}),
        ("dream", {"rope_scaling": {"type": "yarn"}}),
        ("qwen3", {"attention_bias": True}),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("qwen3", {"head_dim": 31}),
        ("qwen3", {"hidden_size": True}),
        ("qwen3", {"rms_norm_eps": 0}),
        ("qwen3", {"rope_theta": "1e6"}),
        ("qwen3", {"tie_word_embeddings": 1}),
    ],
)
def test_a_variant_that_is_not_computed_is_refused_by_name(family, changed):
    ((key, value),) = changed.items()
    message = refusal(published(family) | changed)
    assert f"{key} is {value!r}" in message


@pytest.mark.parametrize(
    "family,changed,words",
    [
        ("qwen3", {"num_key_value_heads": 3}, "4 attention heads cannot share 3"),
        ("llada", {"n_heads": 5}, "d_model 64 does not split into n_heads 5"),
        ("dream", {"num_attention_heads": 64, "num_key_value_heads": 64}, "even width"),
        ("dream", {"mask_token_id": 300}, "mask_token_id is 300; expected an id below"),
        ("llada", {"mask_token_id": 304}, "below the embedding's 304 rows"),
        ("qwen3", {"vocab_size": 297}, "the tokenizer's <|mask|> is 297"),
        ("qwen3", {"vocab_size": 297, "mask_token_id": 5}, "the tokenizer has 298 ids"),
        ("llada", {"architectures": ["LLaDAMoEModelLM"]}, "LLaDAMoEModelLM"),
        ("dream", {"architectures": ["OtherModel"]}, "OtherModel"),
        ("qwen3", {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, "'a2d-qwen3'"),
        ("dream", {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}, "causal model"),
        ("dream", {"model_type": "gpt2"}, "model_type is 'gpt2'"),
        ("llada", {"eos_token_id": 304}, "eos_token_id is 304; expected an id below"),
        ("qwen3", {"pad_token_id": [300, 2]}, "pad_token_id is [300, 2]; expected an id below"),
        ("dream", {"eos_token_id": 297}, "is 297, and so is eos_token_id"),
    ],
)
def test_what_does_not_fit_is_refused(family, changed, words):
    assert words in refusal(published(family) | changed)


def test_the_mask_is_the_files_own_then_the_tokenizers_and_never_a_guess():
    values = published("qwen3")
    assert "mask_token_id" not in values
    assert read(values).mask_id == 297
    assert read(values | {"mask_token_id": 5}).mask_id == 5
    assert "<|mask|>" in refusal(values, tokenizer=[])


def test_the_mask_is_found_by_its_name_wherever_it_stands(tmp_path):
    """It is the golden tokenizer's last token, as published; more may be added behind it."""
    words = [TOKENIZER[0], tmp_path / "added_tokens.json"]
    words[1].write_text('{"<|mine|>": 298}')
    config = read(published("qwen3"), tokenizer=words)
    assert (config.mask_id, config.token_count) == (297, 299)


def test_a_tokenizer_that_ends_early_leaves_ids_that_are_never_drawn():
    config = read(published("llada"))
    assert (config.vocab_size, config.token_count) == (304, 298)
    drawable = config.spec.drawable()
    assert drawable.sum() == 297 and not drawable[297:].any() and drawable[:297].all()
    alone = read(published("llada"), tokenizer=[])
    assert alone.spec.drawable().sum() == 303
    # The tokenizer came from elsewhere.
    assert alone.for_tokenizer(298) == config == config.for_tokenizer(400)


def test_null_stands_for_what_the_published_class_takes():
    values = published("llada") | {"n_kv_heads": None, "embedding_size": None}
    config = read(values)
    assert (config.n_kv_heads, config.vocab_size) == (4, 300)


def test_a_rotary_base_inside_rope_parameters_is_read():
    values = published("qwen3")
    theta = values.pop("rope_theta")
    nested = values | {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    assert read(nested) == read(published("qwen3"))
    scaled = values | {"rope_parameters": {"rope_type": "yarn", "rope_theta": theta}}
    assert "rope_type is 'yarn'" in refusal(scaled)


@pytest.mark.parametrize("family", ["qwen3", "llada", "dream"])
def test_a_config_written_is_the_published_one_and_reads_back_equal(family):
    config = read(published(family))
    written = json.loads(json.dumps(config.to_json()))
    assert written == published(family) | {"mask_token_id": 297}
    assert read(written) == config and hash(read(written)) == hash(config)


@pytest.mark.slow
def test_published_sizes_have_the_published_parameters():
    """LLaDA-8B as its file's bytes say, Qwen3-0.6B as its name says with the head tied."""
    llada = published("llada") | {
        "d_model": 4096, "n_heads": 32, "n_kv_heads": 32, "n_layers": 32, "mlp_hidden_size": 12288,
        "vocab_size": 126464, "embedding_size": 126464, "mask_token_id": 126336,
    }  # fmt: skip
    assert parameter_count(read(llada)) == 8_015_581_184
    qwen3 = published("qwen3") | {
        "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936,
        "mask_token_id": 151669,
    }  # fmt: skip
    assert parameter_count(read(qwen3)) == 596_049_920


def test_tokenizer_files_may_disagree_only_on_nothing(tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1}')
    (tmp_path / "added_tokens.json").write_text('{"<|mask|>": 2}')
    decoder = {"added_tokens_decoder": {"3": {"content": "<|mask|>"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(decoder))
    names = ("vocab.json", "added_tokens.json")
    assert read_tokenizer_ids([tmp_path / name for name in names]) == (2, 3)
    with pytest.raises(InputError, match="several ids"):
        read_tokenizer_ids([tmp_path / name for name in (*names, "tokenizer_config.json")])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tokenizer.json", '{"model": null}', "tokenizer.json does not list tokens"),
        ("tokenizer.json", '{"model": {"vocab": [5]}}', "tokenizer.json does not list tokens"),
        ("tokenizer.json", '{"added_tokens": [7]}', "tokenizer.json does not list tokens"),
        ("vocab.json", '{"a": true}', "'a' has id True"),
        ("added_tokens.json", '{"a": -1}', "'a' has id -1"),
        ("tokenizer_config.json", '{"added_tokens_decoder": []}', "does not list tokens"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}', "None has id 'x'"),
    ],
)
def test_a_tokenizers_file_that_is_none_is_one_line(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as refused:
        read_tokenizer_ids([tmp_path / name])
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("family", ["qwen3", "llada", "dream"])
def test_every_parameter_has_one_published_name(family):
    config = read(published(family))
    keys = [weight.key for weight in architecture(config).weights(config)]
    assert len(keys) == len(set(keys))
