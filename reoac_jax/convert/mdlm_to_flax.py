"""`to_flax` with the published MDLM as its source where none is given.

python convert/mdlm_to_flax.py --output checkpoints/mdlm-owt                  # from the hub
python convert/mdlm_to_flax.py --source FOLDER --output DIR [--verify]
python convert/mdlm_to_flax.py --source FILE.ckpt --ema --output DIR
"""

import sys
from collections.abc import Sequence

from reoac_jax.convert import to_flax
from reoac_jax.system.errors import run_command

SOURCE = "kuleshov-group/mdlm-owt"


def main(argv: Sequence[str]) -> int:
    return to_flax.main(argv, SOURCE)


if __name__ == "__main__":
    sys.exit(run_command(main))
