"""Two network namespaces and a cable: `inside` has a default route through `outside`, which answers for everybody."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # parts of proofs are plain JSON

from controlplane.contracts.proof import NodePart, Signed
from tests.support.source import ROOT

PROBER = ROOT / "playbooks/roles/boundary_proof/files/prove.py"
CLOSED = """
table inet redoubt_boundary
delete table inet redoubt_boundary
table inet redoubt_boundary {{
    counter dropped_out {{ }}
    chain inbound {{ type filter hook input priority 0; policy drop; iifname "lo" accept; {inbound}; }}
    chain forwarded {{ type filter hook forward priority 0; policy drop; }}
    chain outbound {{
        type filter hook output priority 0; policy drop;
        oifname "lo" accept
        ct state established,related accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        {hole}
        counter name dropped_out drop
    }}
}}
"""
ECHO = """
import socket, sys, threading
def tcp():
    with socket.create_server(("0.0.0.0", 443)) as server:
        while True:
            server.accept()[0].close()
threading.Thread(target=tcp, daemon=True).start()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
    echo.bind(("0.0.0.0", 53))
    print("ready", flush=True)
    while True:
        echo.sendto(*echo.recvfrom(2048))
"""


@dataclass(frozen=True)
class TwoNetworks:
    """The names of the namespaces, and a folder for what the prober needs and writes."""

    inside: str
    outside: str
    folder: Path

    def close(self, hole: str = "", inbound: str = "ct state established,related accept") -> None:
        """Load a boundary, with a hole if asked."""
        run("ip", "netns", "exec", self.inside, "nft", "-f", "-", stdin=CLOSED.format(hole=hole, inbound=inbound))

    def prove(self, **more: Any) -> NodePart:
        """Run the prober inside, in a process namespace of its own so that it sees nobody else's processes."""
        config = {
            "site": "practice", "zone": "north", "node": "gpu1", "accounts": ["nobody"], "rules": "/nowhere",
            "routers": ["10.99.0.254"], "ipv4": ["192.0.2.1"], "ipv6": ["2001:db8::1"], "metadata": ["169.254.169.254"],
            "wait_s": 1.0, "own_ports": {}, "replica_commands": ["no-such-process"], "job": None, **more,
        }  # fmt: skip
        (self.folder / "config.json").write_text(json.dumps(config))
        where = ["--config", self.folder / "config.json", "--keys", self.folder, "--last", self.folder / "last.json"]
        apart = ["ip", "netns", "exec", self.inside, "unshare", "--pid", "--fork", "--mount-proc"]
        said = run(*apart, sys.executable, str(PROBER), "run", "--run", "run_1", *map(str, where))
        return NodePart.model_validate_json(Signed.model_validate_json(said).payload)


@contextmanager
def two_networks(name: str, folder: Path) -> Iterator[TwoNetworks]:
    """Make the namespaces, and remove them and who answers there at the end."""
    made = TwoNetworks(f"{name}-inside", f"{name}-outside", folder)
    for namespace in (made.inside, made.outside):
        run("ip", "netns", "add", namespace)
        run("ip", "-n", namespace, "link", "set", "lo", "up")
    echo = None
    try:
        _join(made)
        words = ["ip", "netns", "exec", made.outside, sys.executable, "-c", ECHO]
        echo = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert echo.stdout is not None
        assert echo.stdout.readline() == "ready\n"
        yield made
    finally:
        if echo is not None:
            echo.kill()
            echo.communicate()
        for namespace in (made.inside, made.outside):
            run("ip", "netns", "delete", namespace)


def run(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def _join(made: TwoNetworks) -> None:
    inside, outside = made.inside, made.outside
    run("ip", "-n", inside, "link", "add", "up0", "type", "veth", "peer", "name", "down0", "netns", outside)
    for namespace, device, last in ((inside, "up0", 1), (outside, "down0", 254)):
        run("ip", "-n", namespace, "addr", "add", f"10.99.0.{last}/24", "dev", device)
        run("ip", "-n", namespace, "addr", "add", f"fd99::{last}/64", "dev", device, "nodad")
        run("ip", "-n", namespace, "link", "set", device, "up")
    run("ip", "-n", inside, "route", "add", "default", "via", "10.99.0.254")
    run("ip", "-n", inside, "-6", "route", "add", "default", "via", "fd99::254")
    run("ip", "-n", outside, "route", "add", "local", "0.0.0.0/1", "dev", "lo")
    run("ip", "-n", outside, "route", "add", "local", "128.0.0.0/1", "dev", "lo")
