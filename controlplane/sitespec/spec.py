"""The typed site: what a person writes in `site.yml`, and every reason to refuse it."""

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Self  # Any: a JSON Schema has no narrower type

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from controlplane.contracts import mig
from controlplane.contracts.levels import Classification
from controlplane.sitespec.accounts import MOST_SLOTS

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
MigProfile = Annotated[str, StringConstraints(pattern=mig.PATTERN)]
GpuType = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,15}$")]
Folder = Annotated[str, StringConstraints(pattern=r"^(?:/[A-Za-z0-9._-]+)+$", max_length=200)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Fqdn = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]$", max_length=253
    ),
]


DATABASE_ROLES = frozenset({"redoubt", "redoubt_owner", "postgres"})  # a node's certificate carries the node's name


class Part(BaseModel):
    """Unknown keys are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(Part):
    """The one network inside the boundary, and who may come in from the engineers' side of it."""

    range: IPv4Network = Field(description="Network of the site, such as 10.77.0.0/24.")
    controller: IPv4Address = Field(description="Address that the playbooks come from; the only one that may use SSH.")
    router: IPv4Address | None = Field(
        default=None, description="Where nodes send what is for elsewhere; without it they have no default route."
    )
    operators: tuple[IPv4Network, ...] = Field(default=(), description="Networks that may use the admin API.")
    console_name: Fqdn | None = Field(
        default=None,
        description="Name by which people reach the control plane; without it: its address, and no passkeys.",
    )
    clients: tuple[IPv4Network, ...] = Field(default=(), description="Networks that may use the gateway.")


class Zone(Part):
    """A part of the site with one jurisdiction and clearance."""

    name: Name
    jurisdiction: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] = Field(description="ISO 3166 code.")
    clearance: Classification = Field(
        description="How sensitive data in this zone may be: public, internal, confidential or secret."
    )


class Services(Part):
    """Which node carries what. Compute nodes need no entry: a node with GPUs is one."""

    depot: Name = Field(description="Serves the bundle inside the site.")
    authority: Name = Field(description="Holds the site's certificate authority.")
    time: Name = Field(description="The one time source.")
    scheduler: Name = Field(description="Slurm controller, accounting and REST.")
    scheduler_backup: Name | None = Field(
        default=None, description="Takes over from the scheduler's controller; needs scheduler_state."
    )
    control_plane: Name = Field(description="API and reconciler.")
    database: Name = Field(description="PostgreSQL.")
    gateways: tuple[Name, ...] = Field(min_length=1, description="OpenAI-compatible gateways.")

    def placed(self) -> Iterator[tuple[str, str]]:
        """Yield (service, node) for every placement."""
        for service in type(self).model_fields:
            value = getattr(self, service)
            yield from ((service, node) for node in ([value] if isinstance(value, str) else value or ()))


class Gpus(Part):
    """GPUs of one type in one node."""

    type: GpuType = Field(description="Lower-case word of the product name, such as h100.")
    count: int = Field(ge=1, le=64)
    mig: dict[MigProfile, Annotated[int, Field(ge=1, le=7)]] = Field(
        default={},
        description="What each of these GPUs is cut into, such as {1g.10gb: 7}; without it they stay whole. GPUs of "
        "a type take their entries in the order of the node's numbering.",
    )

    @property
    def layout(self) -> tuple[str, ...]:
        """Return the profile of every instance of one of these GPUs."""
        return tuple(name for name, count in sorted(self.mig.items()) for _ in range(count))


class Node(Part):
    """A machine."""

    name: Name
    address: IPv4Address
    zone: Name
    gpus: tuple[Gpus, ...] = ()
    cpus: int | None = Field(default=None, ge=1, le=4096, description="CPUs offered to jobs; needed with gpus.")
    memory_mb: int | None = Field(default=None, ge=256, description="Memory offered to jobs, MiB; needed with gpus.")
    rack: Name | None = Field(
        default=None, description="Where it stands; jobs over several nodes are kept within one rack where they fit."
    )


class Site(Part):
    """One air-gapped installation."""

    name: Name
    practice: bool = Field(default=False, description="True for simulated nodes: adds what only they need.")
    network: Network
    zones: tuple[Zone, ...] = Field(min_length=1)
    services: Services
    leaf_minutes: int = Field(
        default=48 * 60, ge=2, le=43200, description="How long the certificates are valid that their holders renew."
    )
    models: tuple[ModelName, ...] = Field(default=(), description="Models of the bundle that GPU nodes keep.")
    project_slots: int = Field(
        default=16, ge=1, le=MOST_SLOTS, description="Most projects ever; each has an account and ports of its own."
    )
    scheduler_state: Folder | None = Field(
        default=None,
        description="Folder on storage that both schedulers mount: one goes on with what the other knew.",
    )
    nodes: tuple[Node, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        problems = tuple(contradictions(self))
        if problems:
            raise Contradictions(problems)
        return self

    def node(self, name: str) -> Node:
        """Return the node of that name, which the site is known to have."""
        return next(node for node in self.nodes if node.name == name)

    @property
    def slots(self) -> range:
        """Numbers of the slots that projects may take."""
        return range(1, self.project_slots + 1)

    @property
    def compute(self) -> tuple[Node, ...]:
        """Nodes that offer GPUs to jobs."""
        return tuple(node for node in self.nodes if node.gpus)


class Contradictions(ValueError):
    """Facts of the spec that exclude each other: (where, cause, remedy) each."""

    def __init__(self, problems: tuple[tuple[tuple[str | int, ...], str, str], ...]) -> None:
        super().__init__("; ".join(cause for _, cause, _ in problems))
        self.problems = problems


def contradictions(site: Site) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Yield (where, cause, remedy) for every pair of facts that exclude each other."""
    yield from _repeated(site)
    yield from _unknown_names(site)
    yield from _wrong_addresses(site)
    yield from _incomplete_compute(site)
    yield from _wrong_backup(site)
    yield from _impossible_layouts(site)


def _impossible_layouts(site: Site) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    for index, node in enumerate(site.nodes):
        for place, gpus in enumerate(node.gpus):
            if gpus.mig and (why := mig.why_not(gpus.type, gpus.layout)):
                remedy = "choose profiles that fit together, or leave mig out"
                yield ("nodes", index, "gpus", place, "mig"), why, remedy


def _repeated(site: Site) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    for part, field in (("nodes", "name"), ("nodes", "address"), ("zones", "name")):
        values = [str(getattr(entry, field)) for entry in getattr(site, part)]
        for index, value in enumerate(values):
            if values.index(value) != index:
                first = values.index(value)
                owner = getattr(getattr(site, part)[first], "name", value)
                yield (part, index, field), f"{field} {value} is already taken by {owner}", f"give it another {field}"
    for index, node in enumerate(site.nodes):
        if node.name == "site":  # subject of incidents and records
            yield ("nodes", index, "name"), "the name site is that of the whole", "give it another name"
        if node.name in DATABASE_ROLES:
            cause = f"the name {node.name} is a database role, for which the node's certificate could be taken"
            yield ("nodes", index, "name"), cause, "give it another name"
        for (gpu_type, _), count in Counter((gpus.type, gpus.layout) for gpus in node.gpus).items():
            if count > 1:
                yield (
                    ("nodes", index, "gpus"),
                    f"{gpu_type} is declared {count} times",
                    "add the counts up in one entry",
                )


def _unknown_names(site: Site) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    nodes, zones = {node.name for node in site.nodes}, {zone.name for zone in site.zones}
    for service, node in site.services.placed():
        if node not in nodes:
            yield ("services", service), f"no node is called {node}", f"name one of: {', '.join(sorted(nodes))}"
    for index, entry in enumerate(site.nodes):
        if entry.zone not in zones:
            remedy = f"name one of: {', '.join(sorted(zones))}, or declare it under zones"
            yield ("nodes", index, "zone"), f"no zone is called {entry.zone}", remedy


def _wrong_addresses(site: Site) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    network = site.network.range
    if site.network.controller not in network:
        cause = f"the controller {site.network.controller} is outside {network}"
        yield ("network", "controller"), cause, f"give it an address of {network}, or widen network.range"
    yield from _wrong_router(site)
    for index, node in enumerate(site.nodes):
        where = ("nodes", index, "address")
        if node.address not in network:
            yield (
                where,
                f"{node.address} is outside {network}",
                f"choose an address of {network}, or widen network.range",
            )
        elif node.address in (network.network_address, network.broadcast_address):
            yield where, f"{node.address} is not an address for a machine", "choose one between first and last"
        elif node.address == site.network.controller:
            yield where, f"{node.address} is the controller's address", "give the node an address of its own"


def _wrong_router(site: Site) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    where, router, network = ("network", "router"), site.network.router, site.network.range
    if router is None:
        return
    if router not in network or router in (network.network_address, network.broadcast_address):
        yield where, f"{router} is not an address of {network}", "name the router's address in network.range, or none"
    elif router == site.network.controller:
        yield where, f"{router} is the controller's address", "the controller routes nothing; name the router, or none"
    for node in site.nodes:
        if node.address == router:
            yield where, f"{router} is the address of {node.name}", "a node routes nothing; name the router, or none"


def _incomplete_compute(site: Site) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    if not site.compute:
        yield (
            ("nodes",),
            "no node declares gpus, so nothing can serve",
            "add `gpus: [{type: h100, count: 4}]` to a node",
        )
    for index, node in enumerate(site.nodes):
        missing = [field for field in ("cpus", "memory_mb") if getattr(node, field) is None]
        if node.gpus and missing:
            where = ("nodes", index, "gpus")
            yield where, f"a node with gpus needs {' and '.join(missing)}", f"add {' and '.join(missing)}"


def _wrong_backup(site: Site) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    backup, where = site.services.scheduler_backup, ("services", "scheduler_backup")
    if (backup is None) != (site.scheduler_state is None):
        cause = "scheduler_backup and scheduler_state need each other: one controller goes on with what the other wrote"
        yield where, cause, "name both, or neither"
    if backup == site.services.scheduler:
        yield where, f"{backup} is the scheduler itself, and would be lost with it", "name another node, or none"
    if backup in {node.name for node in site.compute}:
        yield where, f"{backup} runs jobs, and a controller is no job's neighbour", "name a node without gpus, or none"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of `site.yml`, for editors."""
    schema = Site.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
