"""What only shows when all nodes are seen together, and what the control host and the inputs must be."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any  # facts are JSON

from controlplane.sitespec.preflight.check import Check, Judgement, SiteCheck, Unread, View, listed, nothing
from controlplane.sitespec.render import roles_of

GIB = 1 << 30
BUNDLE_SLACK = 1.1
FEWEST_INODES, LEAST_MEMORY_MB, OLDEST_PYTHON = 10_000, 1024, (3, 11)
# What of a bundle each role needs; the rest of a role's needs is in `base`.
FEATURES = {"node_base": "base", "node_time": "time", "depot": "depot", "postgres": "postgres", "slurm": "slurm"}


def machine_ids(views: tuple[View, ...]) -> Iterator[tuple[str, Judgement]]:
    yield from _shared(views, lambda view: [view.facts["node.machine_id"]], "machine id")


def disk_serials(views: tuple[View, ...]) -> Iterator[tuple[str, Judgement]]:
    yield from _shared(views, lambda view: [d["serial"] for d in view.facts["storage.disks"] if d["serial"]], "disk")


def gids(views: tuple[View, ...]) -> Iterator[tuple[str, Judgement]]:
    yield from _shared(views, lambda view: [gid for p in view.facts["fabric.ports"] for gid in p["gids"]], "GID")


def addresses(views: tuple[View, ...]) -> Iterator[tuple[str, Judgement]]:
    """Compare the hardware address that neighbours heard with the one the node has."""
    own = {str(view.node.address): (view.node.name, _macs(view)) for view in views}
    for view in views:
        for address, mac in _or_nothing(view, lambda v: dict(v.facts["network.neighbours"])).items():
            name, macs = own.get(address, ("", set()))
            if macs and mac not in macs:
                yield (
                    name,
                    Judgement(
                        ok=False,
                        measured=f"{view.node.name} hears {mac} at {address}",
                        limit=f"{listed(sorted(macs))} alone",
                    ),
                )


def mtus(views: tuple[View, ...]) -> Iterator[tuple[str, Judgement]]:
    yield from _odd(views, "mtu", "MTU")


def speeds(views: tuple[View, ...]) -> Iterator[tuple[str, Judgement]]:
    yield from _odd(views, "speed_mb", "Mb/s")


def disk(view: View) -> Judgement:
    free, wanted = view.facts["control.free_bytes"], int(view.bundle.find("size_bytes", GIB) * BUNDLE_SLACK)
    return Judgement(free >= wanted, f"{free / GIB:.1f} GiB free", f"{wanted / GIB:.1f} GiB")


def inodes(view: View) -> Judgement | None:
    found = view.facts["control.free_inodes"]
    return Judgement(found >= FEWEST_INODES, f"{found} free", f"{FEWEST_INODES}") if found else None


def memory(view: View) -> Judgement:
    found = view.facts["control.memory_mb"]
    return Judgement(found >= LEAST_MEMORY_MB, f"{found} MiB available", f"{LEAST_MEMORY_MB} MiB")


def python(view: View) -> Judgement:
    found = tuple(view.facts["control.python"])
    return Judgement(found[:2] >= OLDEST_PYTHON, ".".join(map(str, found)), "3.11")


def fingerprints(view: View) -> Judgement:
    return nothing(view.facts["control.unknown_hosts"], limit="every node's key is known")


def clock(view: View) -> Judgement:
    made, ends = view.bundle["created_at_s"], view.bundle["expires_at_s"]
    days = (view.now - made) / 86400
    return Judgement(
        days > -1 and view.now < ends, f"{days:+.0f} days from the bundle's making", "after it, before its end"
    )


def digest(view: View) -> Judgement:
    found = str(view.facts["input.digest"]).partition(" Render it anew")[0]
    return Judgement(not found, found or "as rendered", "as rendered from this site.yml")


def bundle_digest(view: View) -> Judgement:
    found, wanted = view.facts["input.bundle_digest"], view.bundle["digest"]
    return Judgement(found == wanted, f"rendered for {found[:16]}", f"the bundle given is {wanted[:16]}")


def features(view: View) -> Judgement:
    """Judge whether the bundle carries what the roles of this site need."""
    roles = {role for node in view.site.nodes for role in roles_of(view.site, node)}
    wanted = {FEATURES[role] for role in roles if role in FEATURES}
    carried = {str(model) for model in view.bundle["models"]}
    missing = [
        *sorted(wanted - set(view.bundle["features"])),
        *(f"model {m}" for m in view.site.models if m not in carried),
    ]
    return nothing(missing, limit=f"carries {listed(sorted(wanted))}")


def networks(view: View) -> Judgement:
    """Name clients and operators whose networks hold nodes: their rules would open nodes to each other."""
    network = view.site.network
    outside = [net for net in (*network.clients, *network.operators) if net.overlaps(network.range)]
    inside = [
        f"{net} holds {node.name}" for net in dict.fromkeys(outside) for node in view.site.nodes if node.address in net
    ]
    return nothing(inside, limit="clients and operators are no nodes")


def _shared(views: tuple[View, ...], read: Callable[[View], list[str]], what: str) -> Iterator[tuple[str, Judgement]]:
    owners: dict[str, list[str]] = defaultdict(list)
    for view in views:
        for value in set(_or_nothing(view, read)):
            owners[value].append(view.node.name)
    for value, names in sorted(owners.items()):
        if len(names) > 1:
            for name in names:
                yield (
                    name,
                    Judgement(ok=False, measured=f"{what} {value} is that of {listed(names)}", limit="one node each"),
                )


def _odd(views: tuple[View, ...], field: str, unit: str) -> Iterator[tuple[str, Judgement]]:
    values = {
        view.node.name: int(one[field])
        for view in views
        for one in _or_nothing(view, lambda v: list(v.facts["network.interfaces"]))
        if str(view.node.address) in one["addresses"] and int(one[field]) > 0
    }
    if len(set(values.values())) > 1:
        usual = Counter(values.values()).most_common(1)[0][0]
        for name, value in values.items():
            if value != usual:
                yield name, Judgement(ok=False, measured=f"{value} {unit}", limit=f"{usual} {unit}, as most nodes")


def _macs(view: View) -> set[str]:
    return {one["mac"] for one in _or_nothing(view, lambda v: list(v.facts["network.interfaces"]))}


def _or_nothing(view: View, read: Callable[[View], Any]) -> Any:
    """Return what was read; a node that does not show it cannot stand out."""
    try:
        return read(view)
    except Unread:
        return {}


SITE_CHECKS = (
    SiteCheck(
        "node.machine_id", "block", "a cloned image: rm /etc/machine-id, systemd-machine-id-setup, reboot", machine_ids
    ),
    SiteCheck("storage.same_disk", "warn", "two nodes see one disk: unmap it from one of them", disk_serials),
    SiteCheck("fabric.same_gid", "block", "give each port an address of its own", gids),
    SiteCheck(
        "network.same_address",
        "block",
        "find the other machine by its hardware address and give it another one",
        addresses,
    ),
    SiteCheck("fabric.mtu", "warn", "set one MTU on all nodes: larger packets vanish on the way", mtus),
    SiteCheck("fabric.speed", "warn", "look at cable and switch port: this link is slower than the others", speeds),
)
CONTROL_CHECKS = (
    Check("input.digest", "block", "render it anew: redoubt site render SITE.YML --bundle FOLDER", digest),
    Check(
        "input.bundle",
        "block",
        "render it anew with this bundle: redoubt site render SITE.YML --bundle FOLDER",
        bundle_digest,
    ),
    Check(
        "input.features", "block", "build the bundle with these features: redoubt bundle build --feature NAME", features
    ),
    Check("input.networks", "warn", "make clients and operators narrower in site.yml", networks),
    Check("control.disk", "block", "make room for the bundle, or set TMPDIR to a larger disk", disk),
    Check("control.inodes", "block", "remove small files, or set TMPDIR to another disk", inodes),
    Check("control.memory", "warn", "end other programs: every connection takes a process", memory),
    Check("control.python", "block", "install Python 3.11 or newer and make the environment anew", python),
    Check(
        "control.fingerprints",
        "warn",
        "enrol the keys from the nodes' consoles: ssh-keygen -lf /etc/ssh/*.pub",
        fingerprints,
    ),
    Check("control.clock", "block", "set the clock of this machine, or take a bundle that has not expired", clock),
)
