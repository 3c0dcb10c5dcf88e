"""docs/samplers.md is what scripts/make_sampler_docs.py writes."""

import runpy
from pathlib import Path

from reoac_jax.samplers import SAMPLERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "samplers.md"


def test_the_page_is_up_to_date():
    script = runpy.run_path(str(ROOT / "scripts" / "make_sampler_docs.py"))
    assert PAGE.read_text(encoding="utf-8") == script["document"](), (
        "run python scripts/make_sampler_docs.py and commit docs/samplers.md"
    )


def test_every_sampler_says_what_it_computes_and_where_it_is_from():
    page = PAGE.read_text(encoding="utf-8")
    for name, sampler in SAMPLERS.items():
        assert f"## {name}\n" in page and sampler.source in page
        assert len(vars(sampler)["__doc__"].splitlines()[0]) > 20
