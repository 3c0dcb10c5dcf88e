"""An episode for the page's viewer: what changes from step to step, compressed.

A page of 500 episodes of 64 steps and 256 tokens stays a few megabytes, and the browser unpacks one
episode when it is chosen. The viewer (`assets/viewer.js`) is the only reader.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def trace(record: Mapping[str, Any], operators: Sequence[str]) -> str:
    """Base64 of gzipped JSON of a sample's record. operators: the run's, by name and in order.

    Token texts are numbered in `texts`. A step's `written` is `[[position, text], ...]` and its
    `confidence`, in percent, is of the masked and the written positions, ascending. Of the relation
    only the columns that differ are kept, in percent of their own largest value; `column` says
    which one a generated position has.
    """
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    rows = [step["tokens"] for step in record["steps"]][1:] + [record["tokens"]]
    masked = set(range(len(record["tokens"])))
    steps = []
    for step, after in zip(record["steps"], rows, strict=True):
        written, repaired = set(step["written"]), set(step["repaired"])
        seen = sorted(masked | written)
        steps.append(
            {
                "operator": operators.index(step["operator"]),
                "chosen": operators.index(step["chosen"]),
                "executed": operators.index(step["executed"]),
                "cost": round(step["cost"], 4),
                "q": step["q"],
                "policy": np.round(_softmax(step["logits"]), 3).tolist(),
                "features": [round(value, 3) for value in step["features"].values()],
                "written": [[position, number(after[position])] for position in sorted(written)],
                "repaired": sorted(repaired),
                "confidence": [round(100 * step["confidence"][position]) for position in seen],
                "candidates": [
                    [operators.index(c["operator"]), round(c["value"], 6), round(c["cost"], 4)]
                    for c in step.get("candidates", ())
                ],
            }
        )
        masked = (masked - written) | repaired
    columns, column = _distinct_columns(np.asarray(record["relation"], float))
    packed = {
        "prompt": [number(text) for text in record["prompt_tokens"]],
        "length": len(record["tokens"]),
        "operators": list(operators),
        "steps": steps,
        "features": list(record["steps"][0]["features"]),
        "columns": columns,
        "column": column,
        "reference": record["reference"],
        "text": record["text"],
        "extracted": record["extracted"],
        "expected": record["expected"],
        "texts": list(texts),
    }
    plain = json.dumps(packed, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(plain, mtime=0)).decode()


def _softmax(logits: Sequence[float]) -> np.ndarray:
    exponentials = np.exp(np.asarray(logits) - np.max(logits, initial=-np.inf))
    return exponentials / exponentials.sum()


def _distinct_columns(relation: np.ndarray) -> tuple[list[list[int]], list[int]]:
    """The distinct columns of float `[P, G]`, in percent of their maximum, and each column's."""
    peaks = relation.max(axis=0, keepdims=True)
    percent = np.round(100 * relation / np.where(peaks > 0, peaks, 1)).astype(int)
    distinct, column = np.unique(percent, axis=1, return_inverse=True)
    return distinct.T.tolist(), column.reshape(-1).tolist()
