"""`make bench-apply`: what a run that changes nothing costs, and adding one node, to a small site and to a large one.

The nodes are practice nodes, all of them with GPUs, which is the worst case: each allows every other to reach it. They
have the stages that need no packages (boundary and authority): forty machines that install packages would measure apt.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any  # a site spec is free-form YAML here

import yaml
from lab.network import namespace
from lab.nvml import build_library
from lab.places import REPOSITORY
from lab.record import Node
from lab.site import Site
from practice.site import BIN, SPEC, PracticeSite

STAGES = ("boundary", "site_ca")
FIRST = IPv4Address("10.77.0.20")


@dataclass(frozen=True)
class Cost:
    """What one apply took: by the clock, of the controller's processors, and in tasks."""

    seconds: float
    cpu_s: float
    tasks: int
    changed: int


class Bench:
    """One practice site that grows by a node."""

    def __init__(self, nodes: int, place: Path) -> None:
        self.nodes, self.place, self.lab = nodes, place, Site(f"bench{nodes}")
        self.bundle = PracticeSite(self.lab.name).bundle
        self.spec = place / "site.yml"

    def measure(self, *, every: bool) -> dict[str, Cost]:
        """Bring the nodes up, then measure, `every` task of a run without work too; takes the site down again."""
        try:
            self._declare(self.nodes)
            self.lab.up([Node(node["name"], IPv4Address(node["address"])) for node in nodes_of(self.nodes + 1)])
            for node in self.lab.nodes():  # SSH answers while a node still empties its /tmp, from under a module
                self.lab.ssh(node.name, "systemctl is-system-running --wait || true", timeout_s=300)
            costs = {"first": self._apply("first", "--quick"), "no-op": self._apply("quick", "--quick")}
            if every:
                costs["no-op, all tasks"] = self._apply("every")
            self._declare(self.nodes + 1)
            return {**costs, "one more node": self._apply("one", "--quick")}
        finally:
            self.lab.down()

    def _declare(self, nodes: int) -> None:
        self.spec.write_text(yaml.safe_dump(spec_of(nodes)))
        words = ["site", "render", self.spec, "--bundle", self.bundle, "--rendered", self.place / "rendered"]
        command = [str(word) for word in (BIN / "redoubt", *words)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=REPOSITORY)

    def _apply(self, name: str, *words: str) -> Cost:
        reach = ["--ssh-config", self.lab.ssh_config, "--netns", namespace(self.lab.name)]
        asked = ["--bundle", self.bundle, "--rendered", self.place / "rendered", *reach]
        stages = [word for stage in STAGES for word in ("--stage", stage)]
        assets = ["--practice-assets", build_library().parent]
        asking = (BIN / "redoubt", "site", "apply", self.spec, *asked, *assets, *stages, *words, "--json")
        command = [str(word) for word in asking]
        began, before = time.monotonic(), _cpu_s()
        with (self.place / f"{name}.log").open("w") as log:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, check=False, cwd=REPOSITORY)
        if done.returncode:
            sys.exit(f"bench: apply failed\n{(self.place / f'{name}.log').read_text()}")
        said = json.loads(done.stdout)
        return Cost(time.monotonic() - began, _cpu_s() - before, said["tasks"], said["changed"])


def nodes_of(count: int) -> list[dict[str, Any]]:
    """Return so many nodes: one with the services, all others with GPUs."""
    gpus = {"cpus": 8, "memory_mb": 16384, "gpus": [{"type": "h100", "count": 4}]}
    return [
        {"name": f"node{number}", "address": str(FIRST + number), "zone": "north", **(gpus if number else {})}
        for number in range(count)
    ]


def spec_of(count: int) -> dict[str, Any]:
    """Return the practice site with other nodes."""
    spec: dict[str, Any] = yaml.safe_load(SPEC.read_text())
    services = {name: ["node0"] if name == "gateways" else "node0" for name in spec["services"]}
    return {**spec, "services": services, "nodes": nodes_of(count)}


def report(found: dict[int, dict[str, Cost]]) -> Iterator[str]:
    """Yield the lines of the table and the ratios."""
    small, large = min(found), max(found)
    yield f"{'':<22}" + "".join(f"{f'{size} nodes':>34}" for size in found)
    for what in found[small]:
        yield f"{what:<22}" + "".join(f"{_cost(found[size].get(what)):>34}" for size in found)
    for what in ("no-op", "one more node"):
        one, other = found[small][what], found[large][what]
        times = f"{other.seconds / one.seconds:.2f} times the seconds, {other.cpu_s / one.cpu_s:.2f} times the CPU"
        yield f"{what} at {large} against {small}: {times}, {other.tasks / one.tasks:.2f} times the tasks"


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "-"
    return f"{cost.seconds:.1f} s, CPU {cost.cpu_s:.1f} s, {cost.tasks} tasks"


def _cpu_s() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def main() -> None:
    """Measure a small and a large site."""
    parser = argparse.ArgumentParser(prog="make bench-apply", description=__doc__)
    parser.add_argument("--sizes", default="4,40", help="numbers of nodes, separated by commas")
    sizes = [int(word) for word in parser.parse_args().sizes.split(",")]
    found: dict[int, dict[str, Cost]] = {}
    PracticeSite("bench").prepare()
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="redoubt-bench-") as place:
            print(f"bench: {size} nodes", file=sys.stderr, flush=True)
            found[size] = Bench(size, Path(place)).measure(every=size == min(sizes))
            print("\n".join(report(found)), file=sys.stderr, flush=True)
    print(f"stages {', '.join(STAGES)}; CPU is that of the controller, with its SSH clients")
    print("\n".join(report(found)))


if __name__ == "__main__":
    main()
