"""A gateway that starts in milliseconds: `python -m tests.support.gateway_lives SETTINGS`.

A line on standard input forks one more life of the real gateway; its pid is printed. Everything is imported once.
"""

import os
import signal
import sys
from pathlib import Path

from controlplane.gateway.limits import Limits
from controlplane.kit.log import configure_logging
from controlplane.main.gateway import run
from controlplane.main.settings import GatewaySettings, read_settings


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    configure_logging("gateway")
    settings = read_settings(GatewaySettings, Path(sys.argv[1]))
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os._exit(run(settings, limits=Limits(drain_s=1), context_for=lambda _: None))
        print(pid, flush=True)


if __name__ == "__main__":
    main()
