"""Becomes a run once its order has arrived whole; stdlib only, started by path.

The engine writes down this process before it sends the order. Killed in between, it sends nothing: then the pipe
closes early, and nothing was ever started that nobody knows of.
"""

import json
import os
import signal
import sys


def main() -> None:
    """Read argv and environment from standard input, then become that command."""
    order = json.load(sys.stdin.buffer)  # half an order is no JSON
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a command would inherit that
        signal.signal(number, signal.SIG_DFL)
    argv, environment = order["argv"], order["environment"]
    try:
        os.chdir(order["folder"] or ".")
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - no shell is the point
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - the log of the run
        os._exit(127)


if __name__ == "__main__":
    main()
