"""The isolation proof: what every context of every node tried, what the kernel counted, and who signed it."""

from typing import Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Strict

NODE_DOMAIN, SITE_DOMAIN = b"redoubt-proof-node-1\0", b"redoubt-proof-site-1\0"
LAST_PROOF = "/var/lib/redoubt-proof/last.json"  # where a node keeps its newest proof
LAST_SITE_PROOF = "/var/lib/redoubt-proof/site.json"  # where the authority's node keeps the newest whole one

Covers = Literal["node", "site"]
Verdict = Literal["isolated", "leaking", "inconclusive"]
Outcome = Literal[
    "denied",  # the kernel refused the call
    "no_route",  # the kernel knows no way there
    "silent",  # nothing came back in time
    "unresolved",  # no resolver knew the name
    "unsupported",  # the kernel gives this user no such socket
    "absent",  # no proxy is set there
    "sent",  # the kernel let the packet out
    "answered",  # somebody answered
    "present",  # a proxy is set there
    "failed",  # the attempt itself went wrong
]


class Signed(Strict):
    """`payload` is the exact text that was signed; `signature` ECDSA in DER and `certificate` DER, both base64.

    `issuer` is the certificate of the authority between `certificate` and the site's root, null where there is none.
    """

    payload: str
    signature: str
    certificate: str
    issuer: str | None = None


class Attempts(Strict):
    """Attempts of one kind by how they ended."""

    kind: str
    outcomes: dict[Outcome, int]


class Anomaly(Strict):
    """One attempt that did not end as it should."""

    kind: str
    target: str
    outcome: Outcome
    detail: str


class Context(Strict):
    """One user or process as which was tried. `control` is the same means used on loopback, which must work."""

    name: str
    kind: Literal["root", "service", "job", "replica"]
    uid: int
    control: dict[str, bool]
    attempts: tuple[Attempts, ...]
    anomalies: tuple[Anomaly, ...]
    error: str


class Witness(Strict):
    """Packets to the destinations of the proof, counted before all filters and after them."""

    tried: int
    left: int


class Listener(Strict):
    protocol: Literal["tcp", "udp"]
    address: str
    port: int


class NodePart(Strict):
    """What one node saw, in its own words. `drops_*` are the named counters of the boundary, null without one."""

    format: Literal[1]
    site: str
    zone: str
    node: str
    run: str
    boot_id: str
    started_at: AwareDatetime
    ended_at: AwareDatetime
    certificate_sha256: str
    rules_sha256: str
    loaded_sha256: str
    policies: dict[str, str]
    drops_before: dict[str, int] | None
    drops_after: dict[str, int] | None
    witness: Witness | None
    expected: tuple[str, ...]
    expects_job: bool
    routers: tuple[str, ...]
    gateways: tuple[str, ...]
    destinations: tuple[str, ...]
    contexts: tuple[Context, ...]
    listening: tuple[Listener, ...]
    not_checked: tuple[str, ...]


class Declared(Strict):
    """A node of the site spec."""

    name: str
    zone: str
    address: str


class Ports(Strict):
    """Ports of one node, both ends included; `flow` is the name of what the spec allows there."""

    node: str
    protocol: Literal["tcp", "udp"]
    first: int
    last: int
    flow: str


class Answer(Strict):
    """A port that answered; a refusal is an answer too, for the packet came in."""

    node: str
    protocol: Literal["tcp", "udp"]
    port: int
    how: str


class Vantage(Strict):
    """One place from which every node was knocked at. `asked` counts ports by node."""

    name: str
    address: str
    control: bool
    asked: dict[str, int]
    allowed: tuple[Ports, ...]
    answered: tuple[Answer, ...]
    error: str = ""


class TrappedPacket(Strict):
    at: str
    source: str
    destination: str
    protocol: str
    port: int | None


class Trap(Strict):
    """A recorder outside the boundary. It was awake if it heard the canary that the controller sent."""

    recorder: str
    heard_canary: bool
    packets: tuple[TrappedPacket, ...] = ()
    error: str = ""


class SiteProof(Strict):
    """The whole. `nodes` are signed parts by node, `absent` says why a node gave none; `trap` null: nobody watched."""

    format: Literal[1]
    site: str
    run: str
    started_at: AwareDatetime
    ended_at: AwareDatetime
    certificate_sha256: str
    spec_sha256: str
    bundle_sha256: str
    declared: tuple[Declared, ...] = Field(min_length=1)
    nodes: dict[str, Signed]
    absent: dict[str, str]
    outside_in: tuple[Vantage, ...]
    trap: Trap | None
    verdict: Verdict
    reasons: tuple[str, ...]
    not_checked: tuple[str, ...]


class ProofSummary(Strict):
    """What an agent reports of its node's newest proof, or of the whole site's; `sha256` is that of the signed text."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    verdict: Verdict
    reasons: tuple[str, ...] = Field(max_length=20)
    ended_at: AwareDatetime
