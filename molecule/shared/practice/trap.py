"""Speaks for the recorder of a practice site: `redoubt site prove --trap "python -m practice.trap SITE"`."""

from __future__ import annotations

import json
import sys

from lab import router
from lab.errors import LabError


def main() -> int:
    """Forget what was before, or tell what came out since; 1 when the recorder is not awake."""
    site, verb = sys.argv[1], sys.argv[2]
    try:
        if verb == "begin":
            router.clear(site)
        else:
            packets = [_plain(packet) for packet in router.records(site)]
            sys.stdout.write(json.dumps({"recorder": router.outside(site), "packets": packets}))
    except LabError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    return 0


def _plain(packet: router.Packet) -> dict[str, object]:
    ends = {"source": packet.source, "destination": packet.destination, "protocol": packet.protocol}
    return {"at": f"{packet.at:.3f}", **ends, "port": packet.destination_port or None}


if __name__ == "__main__":
    sys.exit(main())
