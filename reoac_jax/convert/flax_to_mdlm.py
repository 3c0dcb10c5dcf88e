"""`from_flax` under the name it had when MDLM was the only architecture."""

import sys

from reoac_jax.convert.from_flax import main
from reoac_jax.system.errors import run_command

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_command(main))
