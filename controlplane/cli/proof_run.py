"""Gathers the evidence of an isolation proof: every node tries to leave, every place outside tries to come in."""

import json
import random
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

from cryptography.x509 import Certificate
from pydantic import ValidationError

from controlplane.cli import port_scan
from controlplane.cli.playbook import Reach
from controlplane.cli.proof_check import read_part
from controlplane.cli.proof_trap import Around, open_trap
from controlplane.contracts.proof import Answer, Declared, NodePart, Ports, Signed, SiteProof, Vantage
from controlplane.domains.health.rules import judge_site
from controlplane.kit.canonical import canonical_json
from controlplane.kit.certificates import load_authority
from controlplane.kit.clock import Clock
from controlplane.kit.errors import RedoubtError, Unavailable
from controlplane.kit.ids import new_id
from controlplane.sitespec.flows import flows, inbound
from controlplane.sitespec.spec import Node, Site

PROBER = "/usr/lib/redoubt/proof/prove.py"
AUTHORITY = "/etc/redoubt/tls/ca.crt"
NODE_S, SCAN_S = 120.0, 300.0
KNOCK_S = 0.8
MOST_KNOWN, STRAYS, LAST_PORT = 1024, 200, 65535
UDP_PORTS = frozenset({53, 67, 69, 111, 123, 161, 500, 514, 4500, 4789, 5353})


@dataclass(frozen=True)
class Ask:
    """What is proven: a site, by which spec and bundle, reached how, and watched by whom."""

    site: Site
    spec_sha256: str
    bundle_sha256: str
    reach: Reach
    trap: str | None = None
    outside: str | None = None
    every_port: bool = False


@dataclass(frozen=True)
class Gathered:
    """A signed proof and the certificate of the site's authority."""

    data: bytes
    authority: Certificate
    authority_pem: bytes


def gather(ask: Ask, clock: Clock) -> Gathered:
    """Run a whole proof and have the site's authority sign it; raises Unavailable when that node does not answer."""
    site, run, started = ask.site, new_id("proof"), clock.now()
    pem = _authority(ask)
    authority = load_authority(pem)
    router = str(site.network.router) if site.network.router else None
    trap = open_trap(ask.trap, Around(run, str(site.network.controller), router, _enter(ask.reach)))
    if trap is not None:
        trap.begin()
    signed, absent = _every_node(ask, run)
    vantages = _knock(ask, _listening(signed))
    heard = trap.end() if trap is not None else None
    proof = _proof(ask, run, started, clock.now(), signed, absent, vantages).model_copy(update={"trap": heard})
    return Gathered(_signed_by_authority(ask, _judged(proof, authority)), authority, pem)


def _every_node(ask: Ask, run: str) -> tuple[dict[str, Signed], dict[str, str]]:
    """Run the prober of every node at once; return what they signed, and why the others did not."""
    signed: dict[str, Signed] = {}
    absent: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=50) as pool:
        told = pool.map(lambda node: _on_node(ask.reach, node, f"python3 {PROBER} run --run {run}"), ask.site.nodes)
        for node, (said, error) in zip(ask.site.nodes, told, strict=True):
            try:
                signed[node.name] = Signed.model_validate_json(said)
            except ValidationError:
                absent[node.name] = error or "its prober said something else than a proof"
    return signed, absent


def _on_node(reach: Reach, node: Node, command: str, stdin: str | None = None) -> tuple[str, str]:
    """Run a command as root on a node; return what it says, and why it does not."""
    config = ["-F", str(reach.ssh_config)] if reach.ssh_config else []
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ControlPath=none", "-o", "LogLevel=ERROR"]
    words = [*_enter(reach), "ssh", *config, *options, f"root@{node.address}", command]
    try:
        done = subprocess.run(words, input=stdin or "", capture_output=True, text=True, timeout=NODE_S, check=False)
    except subprocess.TimeoutExpired:
        return "", f"no answer within {NODE_S:.0f} s"
    return done.stdout, "" if done.returncode == 0 else (done.stderr.strip()[-300:] or f"exit {done.returncode}")


def _knock(ask: Ask, listening: Mapping[str, Iterable[tuple[str, int]]]) -> tuple[Vantage, ...]:
    """Knock at every node from here, and from outside where somebody lends a place to stand."""
    here = str(ask.site.network.controller)
    plan = _doors(ask, listening)
    found = [_vantage(ask, plan, "controller", here, _enter(ask.reach), allowed_from(ask.site, here))]
    if ask.outside:
        router = str(ask.site.network.router or "unknown")
        found.append(_vantage(ask, plan, "outside", router, shlex.split(ask.outside), ()))
    return tuple(found)


def _vantage(
    ask: Ask, plan: dict[str, object], name: str, address: str, enter: Sequence[str], allowed: tuple[Ports, ...]
) -> Vantage:
    asked = {node.name: len(_ports(plan, node.name)) for node in ask.site.nodes}
    script = Path(port_scan.__file__).read_text() + f"\nscan({json.dumps(plan)!r})\n"
    blank = Vantage(name=name, address=address, control=False, asked=asked, allowed=allowed, answered=())
    try:
        done = subprocess.run(
            [*enter, "python3", "-"], input=script, capture_output=True, text=True, timeout=SCAN_S, check=False
        )
        said = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.strip()[-200:]}
    except (OSError, ValueError, subprocess.TimeoutExpired) as wrong:
        said = {"error": f"{type(wrong).__name__}: {wrong}"}
    if "error" in said:
        return blank.model_copy(update={"error": said["error"] or "the scanner failed"})
    answers = tuple(Answer.model_validate(answer) for answer in said["answered"])
    return blank.model_copy(update={"control": said["control"], "answered": answers})


def _doors(ask: Ask, listening: Mapping[str, Iterable[tuple[str, int]]]) -> dict[str, object]:
    """Say where to knock: what listens, what is declared for anybody, the known ports, and some at random."""
    declared = {port for flow in flows(ask.site) for port in range(flow.ports[0], flow.ports[1] + 1)}
    strays = random.SystemRandom().sample(range(MOST_KNOWN + 1, LAST_PORT + 1), STRAYS)
    usual = {*range(1, MOST_KNOWN + 1), *declared, *strays}
    nodes = []
    for node in ask.site.nodes:
        own = list(listening.get(node.name, ()))
        tcp = range(1, LAST_PORT + 1) if ask.every_port else usual | {port for kind, port in own if kind == "tcp"}
        udp = UDP_PORTS | {port for kind, port in own if kind == "udp"}
        nodes.append({"name": node.name, "address": str(node.address), "tcp": sorted(tcp), "udp": sorted(udp)})
    return {"nodes": nodes, "wait_s": KNOCK_S}


def _ports(plan: dict[str, object], name: str) -> list[int]:
    nodes = plan["nodes"]
    found = next(node for node in nodes if node["name"] == name) if isinstance(nodes, list) else {}
    return [*found.get("tcp", ()), *found.get("udp", ())]


def allowed_from(site: Site, address: str) -> tuple[Ports, ...]:
    """Return what the spec lets this address open."""
    return tuple(
        Ports(
            node=node.name, protocol="udp" if rule.protocol == "udp" else "tcp", first=rule.ports[0],
            last=rule.ports[1], flow=rule.name,
        )
        for node in site.nodes
        for rule in inbound(site, node)
        if any(ip_address(address) in ip_network(peer) for peer in rule.peers)
    )  # fmt: skip


def _listening(signed: Mapping[str, Signed]) -> dict[str, list[tuple[str, int]]]:
    """Return what listens by the nodes' own words; a part that lies or cannot be read is dealt with elsewhere."""
    found: dict[str, list[tuple[str, int]]] = {}
    for name, one in signed.items():
        try:
            part = NodePart.model_validate_json(one.payload)
        except ValidationError:
            continue
        found[name] = [(listener.protocol, listener.port) for listener in part.listening]
    return found


def _proof(
    ask: Ask, run: str, started: datetime, ended: datetime, signed: dict[str, Signed], absent: dict[str, str],
    vantages: tuple[Vantage, ...],
) -> SiteProof:  # fmt: skip
    declared = tuple(Declared(name=n.name, zone=n.zone, address=str(n.address)) for n in ask.site.nodes)
    return SiteProof(
        format=1, site=ask.site.name, run=run, started_at=started, ended_at=ended, certificate_sha256="",
        spec_sha256=ask.spec_sha256, bundle_sha256=ask.bundle_sha256, declared=declared, nodes=signed, absent=absent,
        outside_in=vantages, trap=None, verdict="inconclusive", reasons=(), not_checked=_not_checked(ask),
    )  # fmt: skip


def _not_checked(ask: Ask) -> tuple[str, ...]:
    ports = () if ask.every_port else ("ports that nobody listens on by the nodes' own words, but for a sample",)
    trap = () if ask.trap else ("whether a packet arrived outside: no trap was given (--trap)",)
    outside = () if ask.outside else ("what answers a stranger outside: no place to knock from was given (--outside)",)
    return (*ports, *trap, *outside)


def _judged(proof: SiteProof, authority: Certificate) -> SiteProof:
    """Keep the parts whose signatures hold, and judge the whole."""
    parts, absent = {}, dict(proof.absent)
    for name, signed in proof.nodes.items():
        try:
            parts[name] = read_part(proof, name, signed, authority)
        except RedoubtError as wrong:
            absent[name] = wrong.detail
    kept = proof.model_copy(update={"nodes": {name: proof.nodes[name] for name in parts}, "absent": absent})
    judged = judge_site(kept, parts)
    return kept.model_copy(update={"verdict": judged.verdict, "reasons": judged.reasons})


def _authority(ask: Ask) -> bytes:
    said, error = _on_node(ask.reach, ask.site.node(ask.site.services.authority), f"cat {AUTHORITY}")
    if error:
        raise _no_authority(ask, error)
    return said.encode()


def _signed_by_authority(ask: Ask, proof: SiteProof) -> bytes:
    node = ask.site.node(ask.site.services.authority)
    said, error = _on_node(ask.reach, node, f"python3 {PROBER} sign", proof.model_dump_json())
    if error:
        raise _no_authority(ask, error)
    return canonical_json(json.loads(said)) + b"\n"


def _no_authority(ask: Ask, error: str) -> Unavailable:
    name = ask.site.services.authority
    remedy = f"see that {name} answers over SSH and that the site was applied: redoubt site apply"
    return Unavailable(f"{name} cannot sign the proof: {error}", remedy=remedy, code="no_authority")


def _enter(reach: Reach) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{reach.netns}"] if reach.netns else []
