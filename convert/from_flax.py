"""`python convert/from_flax.py` is `python -m reoac_jax.convert.from_flax`."""

import sys

from reoac_jax.convert.from_flax import main
from reoac_jax.system.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
