"""Records what happened, in the same transaction as the change, and proves it afterwards.

Readers are authorised by who calls: policy stands above this domain.
"""

import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from controlplane.domains.audit import rules, store
from controlplane.domains.audit.tables import (
    AuditCheckpoint,
    AuditCosignature,
    AuditEvent,
    AuditHold,
    AuditHoldEnd,
    AuditPersonal,
)
from controlplane.domains.audit.types import Actor, BehindItsWitnesses
from controlplane.kit.crypto import seal, unseal
from controlplane.kit.errors import Conflict, NotFound, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.merkle import Subtree, consistency_spans, inclusion_spans
from controlplane.kit.note import BadNote, is_signed, parse_key, parse_note, parse_signature, write_proof
from controlplane.kit.paging import Page
from controlplane.kit.tx import Tx

ENTRIES = "audit_entries"  # in tx.session.info: what the second sink must hold before the commit
ERASED = "(erased)"


@dataclass(frozen=True)
class Entry:
    """One event of a transaction that is not committed yet."""

    event_id: str
    body: str
    role: str


@dataclass(frozen=True)
class FullEvent:
    """An event with its place in the tree (None: not sealed yet) and what it says of a person (None: nothing)."""

    event: AuditEvent
    leaf_index: int | None
    personal: str | None


@dataclass(frozen=True)
class Placed:
    """Where an event lies in the log, and the C2SP tlog-proof of it."""

    leaf_index: int
    proof: str


async def record(tx: Tx, actor: Actor, event: str, resource: str, **details: object) -> None:
    """Write one event; it becomes true with the change it tells of, or not at all.

    What is personal (wrapped in `Personal`, named in rules.PERSONAL_NAMES, or the actor's address) goes to a side
    record under a key of its own. Never pass prompt text, secrets or tokens.
    """
    key = secrets.token_bytes(32)
    made = rules.compose(new_id("evt"), actor, event, resource, details, around=_surrounding(tx), key=key)
    row = AuditEvent(
        event_id=made.event_id,
        at=tx.now,
        actor=rules.cut(rules.clean_text(actor.id), rules.LONGEST["actor"]),
        role=actor.role,
        event=rules.cut(rules.clean_text(event), rules.LONGEST["event"]),
        resource=rules.cut(rules.clean_text(resource), rules.LONGEST["resource"]),
        details=made.details,
        body=made.body,
    )
    store.add_event(tx, row)
    if made.personal:
        sealed = seal(key, made.personal.encode(), made.event_id.encode())
        side = AuditPersonal(event_id=made.event_id, subject=row.actor, about=row.resource, sealed=sealed)
        await store.add_personal(tx, side, key)
    tx.session.info.setdefault(ENTRIES, []).append(Entry(made.event_id, made.body, actor.role))


@asynccontextmanager
async def attempt(tx: Tx) -> AsyncIterator[None]:
    """Do what may be refused while the rest goes on: a refusal undoes what was written and recorded in here alone."""
    kept = list(tx.session.info.get(ENTRIES, ()))
    try:
        async with tx.session.begin_nested():
            yield
    except BaseException:
        tx.session.info[ENTRIES] = kept
        raise


def _surrounding(tx: Tx) -> rules.Surrounding:
    facts = tx.session.info
    return rules.Surrounding(
        at=tx.now,
        node=str(facts.get("node", "")),
        boot_id=str(facts.get("boot_id", "")),
        request=str(facts.get("request_id", "")),
        policy_digest=str(facts.get("policy_digest", "")),
        approvals=tuple(map(str, facts.get("approvals", ()))),
    )


async def list_events(tx: Tx, page: Page) -> Sequence[AuditEvent]:
    """Return events, newest first."""
    return await store.list_events(tx, page)


async def get_event(tx: Tx, event_id: str) -> FullEvent:
    """Return one event in full; raises NotFound."""
    event = await store.find_event(tx, event_id)
    if event is None:
        raise NotFound(f"there is no event {event_id}", remedy="redoubt audit list")
    leaf = await store.find_leaf(tx, event_id)
    return FullEvent(event, None if leaf is None else leaf.leaf_index, await _personal(tx, event_id))


async def _personal(tx: Tx, event_id: str) -> str | None:
    found = await store.find_personal(tx, event_id)
    if found is None:
        return None
    sealed, key = found
    return ERASED if key is None else unseal(key, sealed, event_id.encode()).decode()


async def list_entries(tx: Tx, page: Page) -> Sequence[tuple[int, bytes, str | None]]:
    """Return leaves in order: index, hash, and the body unless it was purged."""
    start = 0 if page.after is None else store.to_number(page.after) + 1
    return await store.list_entries(tx, start, start + page.limit)


async def get_checkpoint(tx: Tx, size: int | None = None) -> AuditCheckpoint:
    """Return the checkpoint of a size, or the newest; raises NotFound."""
    found = await store.find_checkpoint(tx, size)
    if found is None:
        raise NotFound("there is no such checkpoint", remedy="redoubt audit checkpoint", code="no_checkpoint")
    return found


async def find_checkpoint_before(tx: Tx, at: datetime) -> AuditCheckpoint | None:
    """Return the newest checkpoint that was made before then."""
    return await store.find_checkpoint_before(tx, at)


async def list_checkpoints(tx: Tx, page: Page) -> Sequence[AuditCheckpoint]:
    return await store.list_checkpoints(tx, page)


async def sign_note(tx: Tx, checkpoint: AuditCheckpoint) -> str:
    """Return a checkpoint's note with the cosignatures of its witnesses."""
    return checkpoint.note + "".join(row.line for row in await store.list_cosignatures(tx, [checkpoint.size]))


async def prove_consistency(tx: Tx, *, first: int, second: int) -> list[str]:
    """Return the proof, in base64, that the tree of `first` leaves is the beginning of that of `second`."""
    if not 0 < first <= second <= await store.read_size(tx):
        raise NotFound(f"there is no way from {first} to {second} leaves", remedy="redoubt audit checkpoint")
    return _base64(await store.hash_spans(tx, consistency_spans(first, second)))


async def prove_inclusion(tx: Tx, *, event_id: str, size: int | None = None) -> str:
    """Return a C2SP tlog-proof of one event, up to the checkpoint of `size` or the newest; raises NotFound."""
    leaf = await store.find_leaf(tx, event_id)
    checkpoint = await store.find_checkpoint(tx, size)
    if leaf is None or checkpoint is None or checkpoint.size <= leaf.leaf_index:
        raise NotFound(
            f"no checkpoint covers event {event_id} yet",
            remedy="ask again in ten seconds: a checkpoint is made every ten",
            code="not_sealed",
        )
    hashes = await store.hash_spans(tx, inclusion_spans(leaf.leaf_index, checkpoint.size))
    return write_proof(leaf.leaf_index, hashes, await sign_note(tx, checkpoint))


async def list_period(
    tx: Tx, *, began_at: datetime, ended_at: datetime, about: Sequence[str] | None, limit: int
) -> Sequence[AuditEvent]:
    """Return the newest events of a period, newest first: of all, or those that have to do with some ids."""
    return await store.list_period(tx, began_at=began_at, ended_at=ended_at, about=about, limit=limit)


async def prove_all(tx: Tx, event_ids: Sequence[str]) -> tuple[AuditCheckpoint | None, str, dict[str, Placed]]:
    """Return the newest checkpoint, its note with every signature, and where it covers these events, with proofs."""
    checkpoint = await store.find_checkpoint(tx)
    if checkpoint is None:
        return None, "", {}
    note, known = await sign_note(tx, checkpoint), dict[Subtree, bytes]()
    places = await store.list_leaf_places(tx, event_ids)
    found = {}
    for event_id, index in places.items():
        if index < checkpoint.size:
            hashes = await store.hash_spans(tx, inclusion_spans(index, checkpoint.size), known)
            found[event_id] = Placed(index, write_proof(index, hashes, note))
    return checkpoint, note, found


async def count_leaves(tx: Tx) -> int:
    return await store.read_size(tx)


async def list_witnesses(tx: Tx) -> Sequence[AuditCosignature]:
    """Return what each witness saw last."""
    return await store.list_witnesses(tx)


async def list_witness_keys(tx: Tx) -> Sequence[AuditCosignature]:
    """Return what each witness saw last by each of its keys: old checkpoints are signed by old keys."""
    return await store.list_witness_keys(tx)


async def add_cosignature(tx: Tx, actor: Actor, *, size: int, verifier_key: str, line: str) -> AuditCosignature:
    """Keep a witness's signature of one of our checkpoints; the caller knows that the key is the witness's own.

    Raises NotFound when there is no such checkpoint (then the witness knows more than we do) and Conflict when the
    signature is not over ours.
    """
    checkpoint = await get_checkpoint(tx, size)
    try:
        key, signature = parse_key(verifier_key), parse_signature(line)
    except BadNote as error:
        raise Conflict(f"no cosignature: {error}", remedy="sign the checkpoint as C2SP tlog-cosignature says") from None
    if not is_signed(parse_note(checkpoint.note).body, signature, key):
        raise Conflict(
            f"{actor.id} signed another state of {size} leaves than ours",
            remedy="compare the two checkpoints: one of them is forged",
            code="split_view",
        )
    row = AuditCosignature(
        witness=actor.id, size=size, root=checkpoint.root, verifier_key=verifier_key, line=str(signature), at=tx.now
    )
    store.add_cosignature(tx, row)
    return row


async def check_head(tx: Tx, *, committed: Sequence[str] = (), size: int = 0) -> None:
    """Raise BehindItsWitnesses when the database lacks what was seen of it.

    `committed` are events that were answered, `size` a state that was signed, both as this machine's segments tell.
    """
    here = await store.read_size(tx)
    seen = max(size, await store.newest_witnessed_size(tx))
    lost = await store.count_missing(tx, committed)
    if seen > here or lost:
        raise BehindItsWitnesses(
            f"the database holds {here} sealed events; {seen} were seen, and {lost} that were answered are gone",
            remedy="restore a newer backup of the database; if there is none, two people decide (decision 0021)",
            code="behind_witness",
        )


async def place_hold(tx: Tx, actor: Actor, *, reason: str) -> AuditHold:
    """Keep everything until the hold is released: no purge, no erasure."""
    row = AuditHold(id=new_id("hold"), reason=reason, placed_by=actor.id, placed_at=tx.now)
    store.add(tx, row)
    await record(tx, actor, "audit.held", row.id, reason=reason)
    return row


async def list_holds(tx: Tx) -> Sequence[AuditHold]:
    """Return the holds that are open."""
    return await store.list_open_holds(tx)


async def release_hold(tx: Tx, actor: Actor, *, hold_id: str) -> AuditHold:
    """End a hold; raises NotFound. The caller has spent an approval of two people."""
    found = next((hold for hold in await store.list_open_holds(tx) if hold.id == hold_id), None)
    if found is None:
        raise NotFound(f"no hold {hold_id} is open", remedy="redoubt audit hold")
    store.add(tx, AuditHoldEnd(hold_id=hold_id, ended_by=actor.id, ended_at=tx.now))
    await record(tx, actor, "audit.released", hold_id)
    return found


async def purge(tx: Tx, actor: Actor, *, months: int) -> tuple[int, int]:
    """Drop the bodies of what is older than `months`; return the first leaf that stays and how many bodies went.

    Leaf hashes stay, so every proof holds as before. Raises Refused below six months or while a hold is open. The
    caller has spent an approval of two people; the database checks the rest again (migration audit_retention).
    """
    if months < rules.LEAST_MONTHS:
        raise Refused(f"{months} months are too few", remedy=f"keep {rules.LEAST_MONTHS} at least", code="too_young")
    await _refuse_while_held(tx)
    before = await store.read_first_leaf_since(tx, rules.months_before(tx.now, months))
    bodies = await store.count_bodies_before(tx, before)
    await record(tx, actor, "audit.purged", "audit", before_leaf=before, bodies=bodies, months=months)
    await store.call_purge(tx, before, _newest_id(tx))
    return before, bodies


async def erase(tx: Tx, actor: Actor, *, subject: str) -> int:
    """Delete the keys of every side record of a person; return how many. Raises Refused while a hold is open.

    What the log commits to can then be told by nobody, and every proof holds as before.
    """
    await _refuse_while_held(tx)
    await record(tx, actor, "audit.erased", subject)
    return await store.call_erase(tx, subject, _newest_id(tx))


async def _refuse_while_held(tx: Tx) -> None:
    holds = await store.list_open_holds(tx)
    if holds:
        reasons = tuple(f"{hold.id}: {hold.reason}" for hold in holds)
        raise Refused("a legal hold is open", remedy="two people release it first", code="held", reasons=reasons)


def _newest_id(tx: Tx) -> str:
    entries: list[Entry] = tx.session.info[ENTRIES]
    return entries[-1].event_id


def _base64(hashes: Sequence[bytes]) -> list[str]:
    return [b64encode(value).decode() for value in hashes]
