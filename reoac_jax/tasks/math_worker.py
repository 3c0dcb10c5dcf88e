"""The process in which `math-verify` grades: one JSON request a line in, one JSON verdict out.

    python -m reoac_jax.tasks.math_worker <seconds an item may take>

Started by `grading_pool`. It ends by itself when its input closes or an item overruns, so that
nothing is left behind when the run that started it is killed.
"""

import contextlib
import json
import logging
import os
import resource
import signal
import sys

_GRACE = 2.0  # seconds: the pool stops an overrunning worker first, this is for when it is gone
_MOST_MEMORY = 4 << 30  # bytes of address space; a tower of exponents takes everything otherwise


def main() -> None:
    timeout = float(sys.argv[1])
    # Ctrl-C and a cluster's SIGTERM reach the whole group but are for the run: it ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # The default action, not a handler: a handler waits for the interpreter, which may be stuck
    # inside one long integer operation.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not end up among the replies
    logging.disable(logging.WARNING)  # math-verify warns that its own time limits are off

    from reoac_jax.tasks.math_verdict import judge

    def reply(value: object) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    reply("ready")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, timeout + _GRACE)
        try:
            verdict = judge(request["text"], request["answer"])
        except (Exception, RecursionError, MemoryError) as error:
            verdict = {"error": type(error).__name__}
        signal.setitimer(signal.ITIMER_REAL, 0)
        reply(verdict)


if __name__ == "__main__":
    main()
