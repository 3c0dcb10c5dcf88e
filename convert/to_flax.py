"""`python convert/to_flax.py` is `python -m reoac_jax.convert.to_flax`."""

import sys

from reoac_jax.convert.to_flax import main
from reoac_jax.system.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
