#!/usr/bin/env bash
# Asks a GPU what only a GPU can answer: right numbers, and speed. One call of under 8 minutes, that
# installs and downloads nothing; the weights are random, at the 170M backbone's size.
#
#   bash scripts/gpu_check.sh --output benchmarks/gpu_h100.json
#   bash scripts/gpu_check.sh --size tiny --output check.json       small, also on a CPU
#   bash scripts/gpu_check.sh --parts parity,rollout --output benchmarks/gpu_h100.json
#
# The file is written anew after each part; the same command goes on with what a cut-off call left.
# The machine needs jax (for its GPU), flax and optax; torch and a C++ compiler for the comparison
# with PyTorch. What else the package imports and a bare machine may lack can be carried along:
#
#   pip install --target carried --no-deps ml_collections absl-py PyYAML safetensors
#   PYTHONPATH=carried bash scripts/gpu_check.sh ...
#
# PYTHON chooses the interpreter (default .venv/bin/python, else python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${PYTHON:-}"
if [[ -z "$python" ]]; then
    python=.venv/bin/python
    [[ -x "$python" ]] || python=python3
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
# JAX and PyTorch share the card.
export XLA_PYTHON_CLIENT_PREALLOCATE="${XLA_PYTHON_CLIENT_PREALLOCATE:-false}"
exec "$python" -u scripts/gpu_check.py "$@"
