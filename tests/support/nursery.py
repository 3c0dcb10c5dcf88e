"""Runs command lines of the package in forked children, so that each need not import jax again.

Reads `[module, *argv]` as a line of JSON, answers with the child's process id, and when the child
has ended with its exit status (negative for a signal). The children's output goes to the file
named by the only argument. Started by `Nursery`; nothing here touches a device before it forks.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Nursery:
    """Use it in a `with`. One child at a time: `start`, then `wait`."""

    def __init__(self, folder: Path):
        self.output = folder / "output.txt"
        environment = {
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": str(ROOT),
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.output)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | environment, cwd=ROOT,
        )  # fmt: skip

    def start(self, module: str, argv: Sequence[str]) -> int:
        """The process id of a child that runs `module.main(argv)`."""
        print(json.dumps([module, *argv]), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def wait(self) -> int:
        """The exit status of the child started last."""
        return int(self._process.stdout.readline())

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()


def main(output: str) -> None:
    from reoac_jax import sft, train
    from reoac_jax.system.errors import run_command

    commands = {"train": train.main, "sft": sft.main}
    for line in sys.stdin:
        module, *argv = json.loads(line)
        child = os.fork()
        if child == 0:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(file, 1)
            os.dup2(file, 2)
            code = run_command(commands[module], argv)
            sys.stdout.flush()
            os._exit(code)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
