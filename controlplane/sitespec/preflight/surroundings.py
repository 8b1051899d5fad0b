"""Network, storage, boundary, safety: what stands around the work on a node."""

import re

from controlplane.sitespec.flows import inbound
from controlplane.sitespec.preflight.check import Check, Judgement, View, listed, nothing

GIB = 1 << 30
NODE_BYTES = 4 * GIB  # packages, the product's Python, a journal of 512 MiB, and room to work
DEPOT_BUNDLES = 2.2  # the bundle on its way in, and the one before
FEWEST_INODES = 100_000
BACKUP_AGE_S = 7 * 86400
# Which units may hold the ports of a flow.
OWNERS = {
    "ssh": r"ssh|init\.scope",
    "depot": r"nginx",
    "time": r"chrony",
    "admin_api": r"redoubt-api",
    "joins_api": r"redoubt-api",
    "runs_api": r"redoubt-api",
    "agents_api": r"redoubt-api",
    "gateways_api": r"redoubt-api",
    "gateway": r"redoubt-gateway",
    "database": r"postgresql",
    "slurmctld": r"slurmctld",
    "slurmctld_backup": r"slurmctld",
    "slurmctld_primary": r"slurmctld",
    "slurmdbd": r"slurmdbd",
    "slurmd": r"slurmd",
    "slurmd_from_controller": r"slurmd",
    "job_steps": r"slurm|\.scope",
    "projects": r"slurm|\.scope",
    "runners": r"slurm|\.scope",
}
TABLES = re.compile(r"inet redoubt_\w+")
OURS = re.compile(r" of redoubt-(serve|p\d\d)$")


def nameservers(view: View) -> Judgement:
    return nothing(view.facts["network.nameservers"], limit="none: names come from /etc/hosts")


def default_route(view: View) -> Judgement:
    found = view.facts["network.default_routes"]
    router = getattr(view.site.network, "router", None)
    if router is None:
        return Judgement(not found, listed(found), "none: network.router is not declared")
    strangers = [route for route in found if not route.startswith(f"{router} ")]
    return Judgement(not strangers, listed(found), f"{router} or none")


def ports(view: View) -> Judgement:
    """Judge every port that the spec opens on this node: free, or held by the unit it is for."""
    taken = []
    for rule in inbound(view.site, view.node):
        low, high = rule.ports
        owner = re.compile(OWNERS[rule.name])
        taken += [
            f"{one['port']}/{rule.protocol} by {one['comm']} ({one['unit'] or 'no unit'})"
            for one in view.facts["network.listeners"]
            if one["protocol"] == rule.protocol and low <= one["port"] <= high and not owner.search(one["unit"])
        ]
    return nothing(sorted(set(taken)), limit="free, or the service it is for")


def packet_filter(view: View) -> Judgement:
    others = [table for table in view.facts["network.nft_tables"] if not TABLES.fullmatch(table)]
    return nothing([*others, *view.facts["network.legacy_tables"]], limit="the boundary's table alone")


def room(view: View) -> Judgement:
    free = view.facts["storage.room"]["/"]["free_bytes"]
    wanted = NODE_BYTES
    if view.node.name == view.site.services.depot:
        wanted += int(view.bundle.find("size_bytes", 0) * DEPOT_BUNDLES)
    return Judgement(free >= wanted, f"{free / GIB:.1f} GiB free", f"{wanted / GIB:.1f} GiB")


def inodes(view: View) -> Judgement | None:
    found = view.facts["storage.room"]["/"]
    if not found["inodes"]:
        return None
    return Judgement(found["free_inodes"] >= FEWEST_INODES, f"{found['free_inodes']} free", f"{FEWEST_INODES}")


def writable(view: View) -> Judgement:
    shut = [place for place, found in view.facts["storage.room"].items() if found["read_only"]]
    return nothing(shut, limit="no place is read-only")


def disks(view: View) -> Judgement:
    """Name disks that hold something and serve nothing: nobody formats them, and somebody may miss them."""
    found = [
        f"{one['name']} ({one['holds']})" for one in view.facts["storage.disks"] if one["holds"] and not one["in_use"]
    ]
    return nothing(found, limit="every filled disk is in use")


def escapes(view: View) -> Judgement:
    return nothing(view.facts["boundary.escapes"], limit="nobody outside is reached")


def depot(view: View) -> Judgement:
    found = view.facts["boundary.depot"]
    return Judgement(found, "answers" if found else "does not answer", "answers")


def users(view: View) -> Judgement:
    return nothing(view.facts["safety.users"], limit="nobody is logged in")


def jobs(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    others = [job for job in view.facts["safety.jobs"] if not OURS.search(job)]
    return nothing(others, limit="replicas and jobs of projects alone; apply leaves them running")


def maintenance(view: View) -> Judgement:
    found = view.facts["safety.maintenance"]
    return Judgement(not found, found or "no flag", "no flag")


def backup(view: View) -> Judgement | None:
    if view.node.name != view.site.services.database:
        return None
    age = view.facts["safety.backup_age_s"]
    return Judgement(age < BACKUP_AGE_S, f"{age / 86400:.0f} days old", "7 days")


CHECKS = (
    Check(
        "network.nameservers", "warn", "empty /etc/resolv.conf: a query that nobody answers takes seconds", nameservers
    ),
    Check("network.default_route", "block", "remove the route, or declare network.router in site.yml", default_route),
    Check("network.ports", "block", "stop and disable the program that holds the port", ports),
    Check(
        "network.packet_filter",
        "warn",
        "remove the other rules: two filters hide what either of them drops",
        packet_filter,
    ),
    Check("storage.room", "block", "make room below /, or give the node a larger disk", room),
    Check("storage.inodes", "block", "remove small files, or make the file system anew with more inodes", inodes),
    Check("storage.writable", "block", "look at: journalctl --dmesg; a disk that fails is mounted read-only", writable),
    Check("storage.disks", "warn", "wipefs the disk if it is to be used, or take it out if somebody needs it", disks),
    Check("boundary.escapes", "block", "find the rule that lets it out: nft list table inet redoubt_boundary", escapes),
    Check("boundary.depot", "warn", "systemctl status nginx on the depot; serving goes on without it", depot),
    Check("safety.users", "warn", "ask them to leave: work in their sessions may be lost", users),
    Check(
        "safety.jobs", "warn", "wait for the jobs, or drain the node: scontrol update nodename=NAME state=drain", jobs
    ),
    Check(
        "safety.maintenance", "block", "ask who set it; when they are done: rm /etc/redoubt/maintenance", maintenance
    ),
    Check("safety.backup", "warn", "make a backup of the database before a change that cannot be taken back", backup),
)
