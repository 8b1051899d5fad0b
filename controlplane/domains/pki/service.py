"""Machines: let in by a token, known by short leaves, put out at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.contracts.pki import LeafReading
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.pki import rules, store
from controlplane.domains.pki.tables import IssuedCertificate, JoinToken, NodeJoin, Revocation, SeenLeaf
from controlplane.domains.pki.types import (
    Cause,
    EndingLeaf,
    JoinState,
    Kind,
    LeafTerms,
    PresentLeaf,
    Refusal,
    Standing,
)
from controlplane.domains.policy import service as policy
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import BadInput, Conflict, Denied, NotFound, Unauthenticated
from controlplane.kit.ids import new_id
from controlplane.kit.issuing import IssuedLeaf, Issuer, KeyRequest, LeafNames, read_request
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

REJOIN = "redoubt node join-token NAME, then join again on the node"


@dataclass(frozen=True)
class NewJoinToken:
    """`secret` is shown this once; the site keeps its digest."""

    token: JoinToken
    secret: str


@dataclass(frozen=True)
class Authority:
    """What issues leaves at this site, and how."""

    site: str
    issuer: Issuer
    terms: LeafTerms


async def create_join_token(tx: Tx, actor: Actor, *, node: str, zone: str, address: str) -> NewJoinToken:
    """Make a secret that lets one key in as this declared node; earlier unused ones of the node end."""
    await policy.require(tx, actor, "join_token.create", node)
    await store.mark_tokens_expired(tx, node)
    secret = new_token("rdj")
    token = JoinToken(
        id=new_id("jointoken"), sha256=sha256_hex(secret.encode()), node=node, zone=zone, address=address,
        created_at=tx.now, created_by=actor.id, expires_at=tx.now + rules.JOIN_TOKEN_LIFETIME,
    )  # fmt: skip
    store.add(tx, token)
    await audit.record(tx, actor, "join_token.created", node, token=token.id, zone=zone, address=address)
    return NewJoinToken(token, secret)


async def join(tx: Tx, actor: Actor, authority: Authority, *, token: str, request_pem: str, source: str) -> NodeJoin:
    """Spend a token for the key of a request; the same token and key again give the same answer.

    Raises Unauthenticated for a token that is wrong, used for another key, or expired, and BadInput for a request that
    asks for anything but a leaf for its key.
    """
    await policy.require(tx, actor, "node.join", "site")
    request = read_request(request_pem)
    digest = sha256_hex(token.encode())
    spent = await store.mark_token_used(tx, digest)
    if spent is None:
        return await _joined_before(tx, digest, request)
    if request.common_name not in ("", spent.node):
        raise _asks_for_another(request.common_name, spent.node)
    row = NodeJoin(
        id=new_id("join"), token_id=spent.id, node=spent.node, zone=spent.zone, address=spent.address,
        fingerprint=request.fingerprint, request_pem=request_pem, source=source, asked_at=tx.now,
        state=JoinState.WAITING, certificate_pem="", decided_by="", decided_at=None,
    )  # fmt: skip
    store.add(tx, row)
    await audit.record(tx, actor, "node.join_asked", row.node, join=row.id, fingerprint=row.fingerprint, source=source)
    if not authority.terms.joins_need_approval:
        await _admit(tx, actor, authority, row)
    return row


async def approve_join(tx: Tx, actor: Actor, authority: Authority, *, join_id: str, fingerprint: str) -> NodeJoin:
    """Let a waiting machine in, after somebody compared its fingerprint."""
    await policy.require(tx, actor, "join.approve", join_id)
    row = await _find_waiting(tx, join_id)
    if row.fingerprint != fingerprint:
        raise Conflict(
            f"the machine that waits has the fingerprint {row.fingerprint}",
            remedy="look at the node's own screen; if it shows another one, refuse this join",
            code="other_fingerprint",
        )
    await _admit(tx, actor, authority, row)
    await audit.record(tx, actor, "join.approved", row.node, join=row.id, fingerprint=row.fingerprint)
    return row


async def refuse_join(tx: Tx, actor: Actor, *, join_id: str) -> NodeJoin:
    await policy.require(tx, actor, "join.approve", join_id)
    row = await _find_waiting(tx, join_id)
    row.state, row.decided_at, row.decided_by = JoinState.REFUSED, tx.now, actor.id
    await audit.record(tx, actor, "join.refused", row.node, join=row.id, fingerprint=row.fingerprint)
    return row


async def list_joins(tx: Tx, actor: Actor, *, page: Page, only_waiting: bool) -> Sequence[NodeJoin]:
    await policy.require(tx, actor, "join.read", "site")
    return await store.list_joins(tx, page, only_waiting=only_waiting)


async def authenticate_leaf(tx: Tx, leaf: PresentLeaf) -> None:
    """Raise Unauthenticated unless the leaf counts now: in its time, its node not revoked. Every request asks."""
    await _refuse_revoked(tx, leaf)
    _refuse_standing(leaf, rules.standing(leaf.not_before, leaf.not_after, tx.now, timedelta()), tx.now)


async def renew_leaf(tx: Tx, actor: Actor, authority: Authority, *, leaf: PresentLeaf, request_pem: str) -> IssuedLeaf:
    """Issue the successor of the leaf that was shown: every name is that leaf's, the key is the request's.

    A leaf that lapsed is good for this alone, within the site's grace, and the record says so. Raises Unauthenticated,
    Denied for identities that are not renewed here, Conflict for a leaf that is too young, BadInput for the request.
    """
    await policy.require(tx, actor, "certificate.renew", actor.id)
    await _refuse_revoked(tx, leaf)
    standing = rules.standing(leaf.not_before, leaf.not_after, tx.now, timedelta(seconds=authority.terms.grace_s))
    if standing != Standing.LAPSED:
        _refuse_standing(leaf, standing, tx.now)
    if not rules.may_renew(leaf.not_before, leaf.not_after, tx.now):
        raise Conflict(
            f"the leaf of {leaf.name} was issued at {leaf.not_before.isoformat()} and it is {tx.now.isoformat()} here",
            remedy="renew at half-life; if the node's clock says otherwise, look at its time source",
            code="not_due",
        )
    request = _read_own_request(leaf, request_pem)
    cause = Cause.LATE_RENEWAL if standing == Standing.LAPSED else Cause.RENEWAL
    return await _issue(tx, actor, authority, _names_of(leaf), request, kind=leaf.kind, name=leaf.name, cause=cause)


async def record_own_leaf(tx: Tx, actor: Actor, *, leaf: IssuedLeaf, fingerprint: str, node: str, uri: str) -> None:
    """Put on record a leaf that the issuing process signed for itself."""
    await policy.require(tx, actor, "certificate.issue", uri)
    _keep(tx, leaf, node=node, uri=uri, fingerprint=fingerprint, cause=Cause.OWN)
    await audit.record(tx, actor, "certificate.issued", node, uri=uri, serial=leaf.serial, cause=Cause.OWN)


async def revoke_node(tx: Tx, actor: Actor, *, node: str, reason: str) -> Revocation:
    """Put a machine out at once, with its services, until it joins again.

    Revoking it again keeps the first revocation, and ends the tokens and waiting joins that were made since.
    """
    await policy.require(tx, actor, "node.revoke", node)
    made = Revocation(id=new_id("revocation"), node=node, reason=reason, revoked_at=tx.now, revoked_by=actor.id)
    event = "node.revoked" if await store.mark_open_revocation(tx, made) else "node.revoked_again"
    await store.mark_tokens_expired(tx, node)
    await store.mark_joins_refused(tx, node, actor.id)
    await audit.record(tx, actor, event, node, reason=reason)
    found = await store.find_open_revocation(tx, node)
    return found if found is not None else made


async def list_revocations(tx: Tx, actor: Actor) -> Sequence[Revocation]:
    await policy.require(tx, actor, "certificate.read", "site")
    return await store.list_revocations(tx)


async def list_seen_leaves(tx: Tx, actor: Actor) -> Sequence[SeenLeaf]:
    await policy.require(tx, actor, "certificate.read", "site")
    return await store.list_seen(tx)


async def record_leaves(tx: Tx, actor: Actor, *, leaves: Sequence[LeafReading]) -> None:
    """Keep what lies on a node. Telemetry: what it means is an incident, and so an event."""
    await policy.require(tx, actor, "node.report", actor.id)
    await store.mark_seen(tx, actor.id, leaves)


async def list_refusals(tx: Tx) -> tuple[Refusal, ...]:
    """Return what other servers of the site must refuse. For other domains."""
    return tuple(Refusal(row.node, row.lifted_at) for row in await store.list_revocations(tx))


async def list_ending(tx: Tx) -> list[EndingLeaf]:
    """Return leaves that nobody renewed. For other domains."""
    return [
        EndingLeaf(row.node, row.name, row.not_after)
        for row in await store.list_seen(tx)
        if tx.now >= rules.alarm_at(row.not_before, row.not_after)
    ]


async def _joined_before(tx: Tx, digest: str, request: KeyRequest) -> NodeJoin:
    row = await store.find_join_of_token(tx, digest)
    if row is None or row.fingerprint != request.fingerprint:
        raise Unauthenticated(
            "the join token is wrong, used or expired", remedy="make a new one: redoubt node join-token NAME"
        )
    if row.state == JoinState.REFUSED:
        raise Denied(f"the join of {row.node} was refused", remedy="ask a platform administrator", code="join_refused")
    return row


async def _find_waiting(tx: Tx, join_id: str) -> NodeJoin:
    row = await store.find_join(tx, join_id)
    if row is None:
        raise NotFound(f"no join {join_id}", remedy="redoubt node pending")
    if row.state != JoinState.WAITING:
        raise Conflict(f"the join of {row.node} is {row.state} already", remedy="redoubt node pending --all")
    return row


async def _admit(tx: Tx, actor: Actor, authority: Authority, row: NodeJoin) -> None:
    """Issue the leaf of a join; it also ends a revocation of the node, for leaves from now on."""
    names = LeafNames(row.node, (row.node,), (row.address,), _uri(authority.site, row.zone, Kind.NODE, row.node))
    request = read_request(row.request_pem)
    leaf = await _issue(tx, actor, authority, names, request, kind=Kind.NODE, name=row.node, cause=Cause.JOIN)
    if await store.mark_revocations_lifted(tx, row.node, leaf.certificate.not_valid_before_utc):
        await audit.record(tx, actor, "node.readmitted", row.node, join=row.id)
    row.state, row.decided_at, row.decided_by = JoinState.ISSUED, tx.now, actor.id
    row.certificate_pem = leaf.pem


async def _issue(
    tx: Tx, actor: Actor, authority: Authority, names: LeafNames, request: KeyRequest, *, kind: Kind, name: str,
    cause: Cause,
) -> IssuedLeaf:  # fmt: skip
    usages = rules.usages_of(kind, name)
    if usages is None:
        raise Denied(
            f"the leaf of {kind} {name} is not renewed here",
            remedy="redoubt site apply SITE.YML renews it",
            code="not_renewed",
        )
    start = tx.now.replace(microsecond=0)
    leaf = authority.issuer.issue(
        request.key, names, usages, start=start, end=start + timedelta(seconds=authority.terms.life_s)
    )
    node = rules.belongs_to(kind, name, names.dns)
    _keep(tx, leaf, node=node, uri=names.uri, fingerprint=request.fingerprint, cause=cause)
    await audit.record(tx, actor, "certificate.issued", node, uri=names.uri, serial=leaf.serial, cause=cause)
    return leaf


def _keep(tx: Tx, leaf: IssuedLeaf, *, node: str, uri: str, fingerprint: str, cause: Cause) -> None:
    row = IssuedCertificate(
        serial=leaf.serial, node=node, uri=uri, fingerprint=fingerprint, cause=cause,
        not_before=leaf.certificate.not_valid_before_utc, not_after=leaf.certificate.not_valid_after_utc,
    )  # fmt: skip
    store.add(tx, row)


async def _refuse_revoked(tx: Tx, leaf: PresentLeaf) -> None:
    found = await store.find_last_revocation(tx, leaf.node)
    if found is not None and rules.is_refused(leaf.not_before, found.lifted_at):
        raise Unauthenticated(
            f"node {leaf.node} was revoked at {found.revoked_at.isoformat()}", remedy=REJOIN, code="node_revoked"
        )


def _refuse_standing(leaf: PresentLeaf, standing: Standing, now: datetime) -> None:
    here = f"it is {now.isoformat()} here"
    match standing:
        case Standing.VALID:
            return
        case Standing.EARLY:
            raise Unauthenticated(
                f"the leaf of {leaf.name} counts from {leaf.not_before.isoformat()} and {here}",
                remedy="one of the two clocks is wrong: look at the time source of the control plane and of the node",
                code="certificate_early",
            )
        case Standing.LAPSED | Standing.OVER:
            raise Unauthenticated(
                f"the leaf of {leaf.name} ended at {leaf.not_after.isoformat()} and {here}",
                remedy=f"its agent renews it within the site's grace; after that: {REJOIN}",
                code="certificate_expired",
            )


def _read_own_request(leaf: PresentLeaf, request_pem: str) -> KeyRequest:
    request = read_request(request_pem)
    if not rules.names_itself(leaf, request.common_name):
        raise _asks_for_another(request.common_name, leaf.name)
    if request.fingerprint == leaf.fingerprint:
        raise BadInput("the request holds the present key", remedy="make a new key pair for each leaf", code="same_key")
    return request


def _asks_for_another(asked: str, own: str) -> BadInput:
    return BadInput(
        f"the request asks for the name {asked!r} and its holder is {own}", remedy=f"ask as {own}", code="asks_for_more"
    )


def _names_of(leaf: PresentLeaf) -> LeafNames:
    """Return the names of the leaf that was shown: a successor has the same."""
    return LeafNames(leaf.name, leaf.dns, leaf.ip, leaf.uri)


def _uri(site: str, zone: str, kind: Kind, name: str) -> str:
    return f"redoubt://{site}/zone/{zone}/{kind}/{name}"
