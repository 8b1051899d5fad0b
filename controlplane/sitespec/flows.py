"""Who talks to whom on which port: the whole allow-list of the boundary, computed from the spec."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controlplane.sitespec.accounts import slot_ports, slot_user
from controlplane.sitespec.spec import Node, Site

SSH = (22, 22)
NTP = (123, 123)
POSTGRES = (5432, 5432)
SLURMCTLD = (6817, 6817)
SLURMD = (6818, 6818)
SLURMDBD = (6819, 6819)
ADMIN_API = (8443, 8443)
MACHINE_API = (8444, 8444)
DEPOT = (8445, 8445)
GATEWAY = (9443, 9443)
RUNNERS = (20000, 20999)
JOB_STEPS = (60001, 60100)
LINK_LOCAL = "169.254.0.0/16"  # RFC 3927; clouds answer for their metadata there


@dataclass(frozen=True)
class Flow:
    """One allowed direction of connection. `sources` and `destinations` are addresses or networks.

    `users` are the accounts of a source node that may open it: none where the sources are no nodes.
    """

    name: str
    protocol: str
    ports: tuple[int, int]
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    users: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One flow as one node sees it; `peers` are the other side, `users` who may open it from here."""

    name: str
    protocol: str
    ports: tuple[int, int]
    peers: tuple[str, ...]
    users: tuple[str, ...] = ()


def flows(site: Site) -> tuple[Flow, ...]:
    """Return every connection that the site needs. What is not here is dropped."""
    services, every = site.services, _addresses(site.nodes)
    compute = _addresses(site.compute)
    controller = (str(site.network.controller),)
    scheduler, control_plane = (_addresses([site.node(name)]) for name in (services.scheduler, services.control_plane))
    depot, database, time = (
        _addresses([site.node(name)]) for name in (services.depot, services.database, services.time)
    )
    gateways = _addresses(site.node(name) for name in services.gateways)
    backup = _addresses([site.node(services.scheduler_backup)] if services.scheduler_backup else [])
    schedulers = (*scheduler, *backup)
    projects = tuple(slot_user(slot) for slot in site.slots)
    operators, clients = (tuple(map(str, found)) for found in (site.network.operators, site.network.clients))
    return (
        Flow("ssh", "tcp", SSH, controller, every),
        Flow("depot", "tcp", DEPOT, every, depot, ("root", "_apt")),
        Flow("time", "udp", NTP, every, time, ("_chrony",)),
        Flow("admin_api", "tcp", ADMIN_API, operators, control_plane),
        Flow("runs_api", "tcp", ADMIN_API, compute, control_plane, ("redoubt-serve", *projects)),
        Flow("agents_api", "tcp", MACHINE_API, every, control_plane, ("redoubt-agent",)),
        Flow("joins_api", "tcp", ADMIN_API, every, control_plane, ("redoubt-agent",)),
        Flow("gateways_api", "tcp", MACHINE_API, gateways, control_plane, ("redoubt-gateway",)),
        Flow("gateway", "tcp", GATEWAY, clients, gateways),
        Flow("database", "tcp", POSTGRES, control_plane, database, ("redoubt", "root")),  # root for migrations
        Flow("slurmctld", "tcp", SLURMCTLD, compute, schedulers, ("root",)),  # slurmd and the steps of jobs
        Flow("slurmd_from_controller", "tcp", SLURMD, schedulers, compute, ("slurm", "root")),
        Flow("slurmd", "tcp", SLURMD, compute, compute, ("root",)),
        Flow("job_steps", "tcp", JOB_STEPS, compute, (*scheduler, *compute), ("root",)),
        Flow("projects", "tcp", _ports_of(site.slots), compute, compute, projects),  # each its own: see project_ports
        *_between_schedulers(scheduler, backup),
        Flow("runners", "tcp", RUNNERS, gateways, compute, ("redoubt-gateway",)),
    )


def _between_schedulers(scheduler: tuple[str, ...], backup: tuple[str, ...]) -> tuple[Flow, ...]:
    """Return what a second controller needs; whoever speaks to the first on its own node speaks to the second too."""
    if not backup:
        return ()
    return (
        Flow("slurmctld_backup", "tcp", SLURMCTLD, scheduler, backup, ("slurm", "root", "slurmrestd", "redoubt")),
        Flow("slurmctld_primary", "tcp", SLURMCTLD, backup, scheduler, ("slurm", "root")),
        Flow("slurmdbd", "tcp", SLURMDBD, backup, scheduler, ("slurm", "root")),
    )


def project_ports(site: Site) -> tuple[tuple[str, tuple[int, int]], ...]:
    """Return (account, ports) for every slot: no project's jobs may open another's ports, on no node."""
    return tuple((slot_user(slot), slot_ports(slot)) for slot in site.slots)


def project_services(site: Site, node: Node) -> tuple[int, ...]:
    """Return what on a node its projects' jobs may open beside their own ports: there no boundary stands between.

    Not Slurm: who may speak to it renames his job, changes its class, or queues again what was to end.
    """
    return (ADMIN_API[0],) if node.name == site.services.control_plane else ()


def inbound(site: Site, node: Node) -> tuple[Rule, ...]:
    """Return what may be opened towards this node."""
    return tuple(_rules(flows(site), str(node.address), inbound=True))


def outbound(site: Site, node: Node) -> tuple[Rule, ...]:
    """Return what this node may open."""
    return tuple(_rules(flows(site), str(node.address), inbound=False))


def _rules(every: Iterable[Flow], address: str, *, inbound: bool) -> Iterator[Rule]:
    for flow in every:
        here, there = (flow.destinations, flow.sources) if inbound else (flow.sources, flow.destinations)
        peers = tuple(dict.fromkeys(peer for peer in there if peer != address))
        if address in here and peers:
            yield Rule(flow.name, flow.protocol, flow.ports, peers, () if inbound else flow.users)


def _ports_of(slots: range) -> tuple[int, int]:
    return slot_ports(slots[0])[0], slot_ports(slots[-1])[1]


def _addresses(nodes: Iterable[Node]) -> tuple[str, ...]:
    return tuple(str(node.address) for node in nodes)
