"""Writes docs/samplers.md: every sampler, its parameters, what it computes and where it is from.

    python scripts/make_sampler_docs.py [--output docs/samplers.md]

Everything but the introduction comes from the samplers' own files.
"""

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from reoac_jax.config import parse_options
from reoac_jax.config.parameters import value_text
from reoac_jax.samplers import SAMPLERS, Sampler
from reoac_jax.system.errors import run_command
from reoac_jax.system.files import write_text

_INTRODUCTION = """# Samplers

Written by `python scripts/make_sampler_docs.py` from `reoac_jax/samplers/`.

A sampler says which masked positions a denoising step reveals. Its parameters follow its name:

    python -m reoac_jax.evaluate --config configs/tiny.py \\
        --policy threshold:threshold=0.8,block_len=4 --output runs/threshold.json

`--policy help` lists all of them in a terminal, `scripts/sweep_samplers.py` measures one over the
values of a parameter. What they share:

- $M$: the masked positions of the row, or of its present block. $p_i$: the distribution at position
  $i$, without temperature or top-p; the mask and ids without a token have probability 0 (for models
  whose published code bans nothing this is a departure). The token proposed at $i$ is the most
  probable one, or drawn; $c_i$ is its $p_i$, $H_i$ the entropy in nats.
- How it is drawn is the configuration's to say (`evaluation.sample_strategy`,
  `rollout.temperature`), or the policy's own: `tokens=sample,temperature=0.1,top_p=0.9`. The
  nucleus is taken at that temperature, and holds the token that crosses it. `ancestral` and `remdm`
  have a draw of their own.
- Given tokens count as revealed and are never masked again. Of equal positions the leftmost goes
  first.
- Blocks of `block_len` positions are worked on from left to right, counted from the first generated
  position; the last may be shorter. Later blocks stay masked and are seen by the backbone; a block
  is finished before the next one begins, and one without a mask is passed over.
- Rules with `steps`, and `klass`, share a row's steps out among the blocks, the first ones getting
  those left over, and a block's last step reveals what is left of it. Rules with `limit` take as
  many steps as they need, `rollout.max_steps` at most if `limit` is true. A row's last step reveals
  what is left.
- A pass is counted for a row where the backbone was asked for it.
"""


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("docs/samplers.md"))
    options = parse_options(parser, argv)
    write_text(options.output, document())
    print(f"wrote {options.output}")
    return 0


def document() -> str:
    """The page."""
    return "\n".join(
        [_INTRODUCTION, *_table(), *(line for s in SAMPLERS.values() for line in _of(s))]
    )


def _table() -> Iterator[str]:
    yield "| sampler | parameters | source |"
    yield "|---|---|---|"
    for name, sampler in SAMPLERS.items():
        parameters = ", ".join(f"`{field.name}`" for field in dataclasses.fields(sampler))
        yield f"| [`{name}`](#{name}) | {parameters} | {sampler.source} |"
    yield ""


def _of(sampler: type[Sampler]) -> Iterator[str]:
    yield f"## {sampler.name}"
    yield ""
    yield inspect.getdoc(sampler) or ""
    yield ""
    yield f"Source: {sampler.source}."
    yield ""
    yield "| parameter | may hold | default | |"
    yield "|---|---|---|---|"
    options = sampler.parameters()
    for field in dataclasses.fields(sampler):
        option = options[field.name]
        yield (
            f"| `{field.name}` | {option.expected} | `{value_text(field.default)}` | {option.doc} |"
        )
    yield ""


if __name__ == "__main__":
    sys.exit(run_command(main))
