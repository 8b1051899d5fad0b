"""The real gateway process, but for two things that settings never allow: replicas without TLS, and no spool.

`python -m tests.bench.gateway_under_test SETTINGS plain|tls spool|no-spool`
"""

import sys
from pathlib import Path

from controlplane.gateway.records import Denial, Intent, Outcome
from controlplane.gateway.spool import Spool, Waiter
from controlplane.kit.log import configure_logging
from controlplane.main import gateway
from controlplane.main.settings import GatewaySettings, read_settings


class NoSpool(Spool):
    """Writes nothing down: what is measured against it is the price of doing so."""

    def intend(self, intent: Intent, waiter: Waiter) -> None:
        waiter.recorded()

    def note(self, record: Outcome | Denial) -> None:
        """Forget it."""


if __name__ == "__main__":
    configure_logging("gateway")
    settings = read_settings(GatewaySettings, Path(sys.argv[1]))
    if sys.argv[3] == "no-spool":
        gateway.Spool = NoSpool  # type: ignore[attr-defined]  # a subclass in its place, in this process alone
    sys.exit(gateway.run(settings, context_for=(lambda _: None) if sys.argv[2] == "plain" else None))
