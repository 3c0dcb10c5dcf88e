"""A plugin of pytest that writes down what a collection found and what of it was selected.

`SELECTION` in the environment names the file: JSON, `{"all": {test: [marks]}, "selected": [test]}`.
"""

import json
import os
from pathlib import Path

import pytest

_found: dict[str, list[str]] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        _found[item.nodeid] = sorted({mark.name for mark in item.iter_markers()})


def pytest_collection_finish(session: pytest.Session) -> None:
    selected = [item.nodeid for item in session.items]
    Path(os.environ["SELECTION"]).write_text(json.dumps({"all": _found, "selected": selected}))
