"""Incidents: what is wrong with the site, from the proofs that nodes give of their own boundary."""

from collections.abc import Iterable, Sequence

from controlplane.contracts.proof import Covers, ProofSummary, Verdict
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.fleet import service as fleet
from controlplane.domains.health import rules, store
from controlplane.domains.health.tables import Incident, NodeProof
from controlplane.domains.health.types import Fault, IncidentKind, NewestProof
from controlplane.domains.identity.service import break_glass
from controlplane.domains.pki import service as pki
from controlplane.domains.policy import service as policy
from controlplane.domains.witness import service as witness
from controlplane.kit.errors import NotFound
from controlplane.kit.ids import new_id
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

VERDICTS: dict[str, Verdict] = {word: word for word in ("isolated", "leaking", "inconclusive")}


async def record_proof(tx: Tx, actor: Actor, *, proof: ProofSummary, covers: Covers) -> None:
    """Keep the newest proof that a node has of itself or of the site. What it means is an incident, and so an event."""
    await policy.require(tx, actor, "proof.report", actor.id)
    await store.mark_proof(tx, actor.id, covers, proof)


async def settle_incidents(tx: Tx, actor: Actor) -> None:
    """Open an incident for every fault there is and close those whose fault is gone."""
    await policy.require(tx, actor, "incident.settle", "site")
    still_open = {(IncidentKind(row.kind), row.subject): row for row in await store.list_open_incidents(tx)}
    faults = {(fault.kind, fault.subject): fault for fault in await _faults(tx, still_open)}
    for key, fault in faults.items():
        if (row := still_open.get(key)) is not None:
            _see_again(tx, row, fault)
        else:
            await _open(tx, actor, fault)
    for key, row in still_open.items():
        if key not in faults:
            row.closed_at = tx.now
            await audit.record(tx, actor, "incident.closed", row.id, kind=row.kind, subject=row.subject)


async def list_incidents(tx: Tx, actor: Actor, *, page: Page, only_open: bool) -> Sequence[Incident]:
    await policy.require(tx, actor, "incident.read", "site")
    return await store.list_incidents(tx, page, only_open=only_open)


async def get_incident(tx: Tx, actor: Actor, *, incident_id: str) -> Incident:
    await policy.require(tx, actor, "incident.read", incident_id)
    found = await store.find_incident(tx, incident_id)
    if found is None:
        raise NotFound(f"no incident {incident_id}", remedy="redoubt incident list --all")
    return found


async def _faults(tx: Tx, still_open: Iterable[tuple[IncidentKind, str]]) -> list[Fault]:
    proofs = {(row.covers, row.node): row for row in await store.list_proofs(tx)}
    kinds: dict[str, set[IncidentKind]] = {}
    for kind, subject in still_open:
        if kind in rules.OF_BOUNDARY:
            kinds.setdefault(subject, set()).add(kind)
    of_nodes = [
        fault
        for node, declared_at in (await fleet.declared_since(tx)).items()
        for fault in rules.faults_of(
            node, _newest(proofs.get(("node", node))), declared_at, kinds.get(node, set()), tx.now
        )
    ]
    whole = proofs.get(("site", await fleet.authority_node(tx) or ""))  # what another node says of the site is nothing
    of_site = rules.faults_of_site(_newest(whole), kinds.get(rules.SITE, set()))
    glass = rules.faults_of_glass(await break_glass.list_open(tx), await break_glass.missing_custodians(tx))
    ending = rules.faults_of_certificates(await pki.list_ending(tx), tx.now)
    log = rules.faults_of_log(await witness.judge_witnesses(tx))
    return [*of_nodes, *of_site, *glass, *ending, *log]


async def _open(tx: Tx, actor: Actor, fault: Fault) -> None:
    """Open an incident, or again the one that was closed a moment ago: a fault that comes and goes is one."""
    before = await store.find_last_closed(tx, fault.kind, fault.subject)
    if before is not None and before.closed_at and rules.is_reopened(before.closed_at, tx.now):
        before.closed_at, before.times = None, before.times + 1
        _see_again(tx, before, fault)
        row, event = before, "incident.reopened"
    else:
        row = Incident(
            id=new_id("incident"), kind=fault.kind, subject=fault.subject, opened_at=tx.now, last_seen_at=tx.now,
            detail=fault.detail, evidence_sha256=fault.evidence_sha256,
        )  # fmt: skip
        store.add(tx, row)
        event = "incident.opened"
    await audit.record(tx, actor, event, row.id, kind=fault.kind, subject=fault.subject, detail=fault.detail)


def _see_again(tx: Tx, row: Incident, fault: Fault) -> None:
    row.last_seen_at, row.detail, row.evidence_sha256 = tx.now, fault.detail, fault.evidence_sha256


def _newest(row: NodeProof | None) -> NewestProof | None:
    """A proof is as old as its node says, or as its arrival shows, whichever is longer ago."""
    if row is None:
        return None
    verdict = VERDICTS.get(row.verdict, "inconclusive")
    return NewestProof(row.sha256, verdict, tuple(row.reasons), min(row.ended_at, row.received_at))
