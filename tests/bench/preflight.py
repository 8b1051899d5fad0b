"""How long preflight takes for a hundred nodes: the real command, playbook and module, over local connections.

Simulated is only the way to the nodes: every inventory host is this machine. The CPU of all nodes is therefore that of
this machine, so a real site of a hundred nodes is faster than the figure.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from controlplane.sitespec.render import BundleFacts, digest_of, render
from controlplane.sitespec.text import parse_site
from tests.support.source import ROOT

NODES = int(os.environ.get("REDOUBT_BENCH_NODES", "100"))
LIMIT_S = 60
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, and of all CPUs together."""

    wall_s: float
    cpu_s: float


def spec_of(count: int) -> str:
    """Return a site of so many GPU nodes; the first carries every service."""
    services = dict.fromkeys(("depot", "authority", "time", "scheduler", "control_plane", "database"), "n1")
    nodes = [
        {
            "name": f"n{number}",
            "address": f"10.77.{number // 250}.{number % 250 + 2}",
            "zone": "north",
            "cpus": 1,
            "memory_mb": 512,
            "gpus": [{"type": "h100", "count": 8}],
        }
        for number in range(1, count + 1)
    ]
    return yaml.safe_dump(
        {
            "name": "bench",
            "network": {"range": "10.77.0.0/16", "controller": "10.77.0.1"},
            "zones": [{"name": "north", "jurisdiction": "DE", "clearance": "internal"}],
            "services": {**services, "gateways": ["n1"]},
            "nodes": nodes,
        }
    )


def write_site(folder: Path, count: int) -> tuple[Path, Path]:
    """Write the spec and its inventory; every host of it is reached on this machine."""
    spec, rendered = folder / "site.yml", folder / "rendered"
    spec.write_text(spec_of(count))
    site = parse_site(spec.read_text())
    files = render(site, BundleFacts(digest="0" * 64, apt_key="", root="", models=()), source=spec.read_text())
    hosts = yaml.safe_load(files["hosts.yml"])
    for host in hosts["all"]["children"]["nodes"]["hosts"].values():
        host["ansible_connection"] = "local"
    files["hosts.yml"] = yaml.safe_dump(hosts)
    del files["digest"]
    files["digest"] = digest_of(files, source=spec.read_text())
    for name, text in files.items():
        (rendered / name).parent.mkdir(parents=True, exist_ok=True)
        (rendered / name).write_text(text)
    return spec, rendered


def measure(count: int) -> Took:
    """Run the command once; raises when a node was not read."""
    with tempfile.TemporaryDirectory() as scratch:
        spec, rendered = write_site(Path(scratch), count)
        before, started = _cpu_s(), time.monotonic()
        done = subprocess.run(
            [BIN / "redoubt", "site", "preflight", spec, "--rendered", rendered, "--json"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        took = Took(time.monotonic() - started, _cpu_s() - before)
    checks = json.loads(done.stdout)["checks"]
    read = {one["node"] for one in checks if one["id"] == "node.reachable" and one["state"] == "ok"}
    if len(read) != count:
        raise SystemExit(f"only {len(read)} of {count} nodes were read: {done.stderr[-2000:]}")
    return took


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure one node and many; exit 1 above the limit."""
    one, many = measure(1), measure(NODES)
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    print(f"preflight of 1 node      {one.wall_s:6.1f} s   cpu {one.cpu_s:6.1f} s")
    print(
        f"preflight of {NODES} nodes  {many.wall_s:6.1f} s   cpu {many.cpu_s:6.1f} s   ({cores} cores, load {load:.1f})"
    )
    print(f"ratio                    {many.wall_s / one.wall_s:6.1f}     cpu per node {many.cpu_s / NODES:.2f} s")
    print(f"limit                    {LIMIT_S:6.1f} s   {'kept' if many.wall_s < LIMIT_S else 'MISSED'}")
    raise SystemExit(many.wall_s >= LIMIT_S)


if __name__ == "__main__":
    main()
