"""The real gateway process, but for one thing: it may speak to replicas without TLS, which settings never allow.

`python -m tests.bench.gateway_under_test SETTINGS plain|tls`
"""

import sys
from pathlib import Path

from controlplane.kit.log import configure_logging
from controlplane.main.gateway import run
from controlplane.main.settings import GatewaySettings, read_settings

if __name__ == "__main__":
    configure_logging("gateway")
    settings = read_settings(GatewaySettings, Path(sys.argv[1]))
    sys.exit(run(settings, context_for=(lambda _: None) if sys.argv[2] == "plain" else None))
