"""The option `--policy`, for command lines that are read before JAX is imported, as policies do."""

import argparse
from typing import Any

from reoac_jax.evaluation.names import ACTOR, HELP


class _PolicyAction(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        from reoac_jax.evaluation.policies import parse_policy, policies_in_words

        if values == HELP:
            print(policies_in_words())
            parser.exit()
        parse_policy(values)
        setattr(namespace, self.dest, values)


def policy_option() -> dict[str, Any]:
    """What `add_argument("--policy", ...)` takes: the name is checked while the command line is
    read, and `--policy help` lists what there is."""
    return {
        "action": _PolicyAction,
        "default": ACTOR,
        "metavar": "NAME[:PARAMETER=VALUE,...]",
        "help": f"who decides ({ACTOR}); {HELP} lists them with their parameters",
    }
