"""The one reader of JSON objects."""

import json

import pytest

from reoac_jax.system.errors import InputError
from reoac_jax.system.json_files import read_json_object


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_an_object_with_or_without_a_byte_order_mark(start, tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(start + json.dumps({"a": "ü"}, ensure_ascii=False).encode())
    assert read_json_object(file, "an object") == {"a": "ü"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"null", b"\xff\xfe{}", b"[" * 200_000, None]
)
def test_what_is_refused_names_the_file_and_what_was_expected(content, tmp_path):
    file = tmp_path / "x.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_json_object(file, "what evaluate wrote", what="--eval")
    assert str(raised.value).startswith(f"--eval {file} ")
    assert str(raised.value).endswith("; expected what evaluate wrote")
