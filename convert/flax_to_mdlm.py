"""`python convert/flax_to_mdlm.py` is `python -m reoac_jax.convert.flax_to_mdlm`."""

import sys

from reoac_jax.convert.flax_to_mdlm import main
from reoac_jax.system.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
