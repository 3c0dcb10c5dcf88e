"""The packed episode holds what the sample held."""

import base64
import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated_run import OPERATORS, episode

from reoac_jax.report.traces import trace


def unpack(record):
    return json.loads(gzip.decompress(base64.b64decode(trace(record, OPERATORS))))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_every_row_can_be_rebuilt(seed, overwrite):
    simulated = episode(seed, overwrite=overwrite)
    packed = unpack(simulated.record)
    row = [None] * packed["length"]
    for step, expected in zip(packed["steps"], simulated.rows[1:], strict=True):
        written = dict(step["written"])
        open_positions = [i for i, text in enumerate(row) if text is None or i in written]
        assert len(step["confidence"]) == len(open_positions)
        row = [packed["texts"][written[i]] if i in written else x for i, x in enumerate(row)]
        row = [None if i in step["repaired"] else x for i, x in enumerate(row)]
        assert row == expected


def test_the_numbers_of_a_step():
    record = episode(3).record
    packed = unpack(record)
    assert [packed["texts"][i] for i in packed["prompt"]] == record["prompt_tokens"]
    for step, original in zip(packed["steps"], record["steps"], strict=True):
        assert OPERATORS[step["operator"]] == original["operator"]
        assert step["q"] == pytest.approx(original["q"], abs=1e-4)
        share = np.exp(original["logits"]) / np.exp(original["logits"]).sum()
        assert step["policy"] == pytest.approx(share, abs=1e-3)
        assert len(step["candidates"]) == len(original.get("candidates", ()))
        assert step["features"] == pytest.approx(list(original["features"].values()), abs=1e-3)
    assert any(step["candidates"] for step in packed["steps"])
    relation = np.array(record["relation"])
    columns = np.array([packed["columns"][i] for i in packed["column"]]).T
    np.testing.assert_allclose(columns, 100 * relation / relation.max(axis=0), atol=0.5)


def test_equal_columns_of_the_relation_are_kept_once():
    record = episode(1).record | {"relation": [[0.5, 0.1, 0.5] * 3, [0.5, 0.9, 0.5] * 3]}
    packed = unpack(record)
    assert sorted(packed["columns"]) == [[11, 100], [100, 100]]
    assert len(set(packed["column"])) == 2
