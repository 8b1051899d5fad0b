"""The policy set in force, as this process has it: read again twice a second, and never lost to a broken row."""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any  # a question as data is JSON
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from controlplane.domains.policy.rules import cedar, drafts, shipped
from controlplane.domains.policy.rules.decision import Decider, digest_of, to_data
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.store import rows
from controlplane.domains.policy.tables import PolicyDecision
from controlplane.domains.policy.types import MACHINES, BrokenPolicies, Decided
from controlplane.kit.canonical import canonical_json
from controlplane.kit.errors import Unavailable
from controlplane.kit.tx import Tx

log = structlog.get_logger()

FRESH_FOR = timedelta(seconds=0.5)
SHIPPED = cedar.load(shipped.shipped_policies(), VERBS)
CLEANED_EVERY = 256  # decisions that this process wrote
NUL = b"\\u0000"
MOST_REMEMBERED = 4096
WRITTEN_AGAIN = {True: timedelta(hours=1), False: timedelta(minutes=1)}  # a machine's question is always the same


@dataclass
class InForce:
    """`decider` None means that nothing good was ever loaded: everything is denied.

    `number` is what was loaded, or found broken, last: a load that a fault of the database ended is tried again.
    """

    decider: Decider | None = None
    number: int = -1
    version: int = 0
    looked_at: datetime | None = None
    written: "OrderedDict[str, tuple[datetime, int]]" = field(default_factory=OrderedDict)
    rows_written: int = 0


_KNOWN: WeakKeyDictionary[object, InForce] = WeakKeyDictionary()  # one for each database that this process uses


async def get_in_force(tx: Tx) -> InForce:
    """Return what is in force, at most half a second old."""
    known = _of(tx)
    if known.looked_at is None or abs(tx.now - known.looked_at) >= FRESH_FOR:
        await _look(tx, known)
        known.looked_at = tx.now
    return known


def decider_of(known: InForce) -> Decider:
    """Return what answers; raises Unavailable where no set was ever good."""
    if known.decider is None:
        raise Unavailable(
            "nothing can be decided now, so everything is denied",
            remedy="an administrator of the control-plane node finds the reason in the log of redoubt-api",
            code="policy_unavailable",
        )
    return known.decider


def look_again(tx: Tx) -> None:
    """Read anew at the next question: this process has just changed it."""
    _of(tx).looked_at = None


async def keep_decision(tx: Tx, known: InForce, decided: Decided) -> None:
    """Write a decision down, unless the same was written a moment ago; old ones go now and then."""
    times = _times_to_write(known, decided, tx.now)
    if not times:
        return
    answer = decided.answer
    row = PolicyDecision(
        at=tx.now, policy_digest=decided.digest, outcome=answer.outcome, times=times,
        question=_storable(to_data(decided.question)),
        why={"policies": list(answer.policies), "clauses": list(answer.clauses), "errors": list(answer.errors)},
    )  # fmt: skip
    rows.add(tx, row)
    known.rows_written += 1
    if known.rows_written % CLEANED_EVERY == 0:
        await rows.delete_old_decisions(tx)


def _storable(data: dict[str, Any]) -> dict[str, Any]:
    """Return data without the one character that PostgreSQL's JSON cannot hold."""
    text = canonical_json(data)
    return data if NUL not in text else dict(json.loads(text.replace(NUL, b"\\ufffd")))


def _times_to_write(known: InForce, decided: Decided, now: datetime) -> int:
    """Return how many like decisions one row now stands for; 0 means that none is due, and this one is counted."""
    question = decided.question
    key = f"{digest_of(question)}{decided.digest}{decided.answer.outcome}"
    at, skipped = known.written.pop(key, (None, 0))
    due = at is None or abs(now - at) >= WRITTEN_AGAIN[bool(question.roles & MACHINES)]
    known.written[key] = (now, 0) if at is None or due else (at, skipped + 1)
    if len(known.written) > MOST_REMEMBERED:
        known.written.popitem(last=False)
    return skipped + 1 if due else 0


async def _look(tx: Tx, known: InForce) -> None:
    number = await rows.newest_publication(tx)
    if number == known.number:
        return
    try:
        version, engine = await _load(tx, number)
    except BrokenPolicies as error:
        known.number, broken = number, error.reasons
    else:
        if known.decider is None or known.decider.engine.digest != engine.digest:
            known.decider = Decider(engine)
            log.info("policy.loaded", publication=number, version=version, digest=engine.digest)
        known.number, known.version = number, version
        return
    log.error("policy.broken", publication=number, keeps=known.version if known.decider else "nothing", why=broken)


async def _load(tx: Tx, number: int) -> tuple[int, cedar.Engine]:
    stored = await rows.find_published_set(tx, number)
    if stored is None:
        return 0, SHIPPED
    if drafts.digest_of(stored.policies, stored.examples) != stored.sha256:
        raise BrokenPolicies(
            f"policy set {stored.version} is not what was approved: its digest differs",
            remedy="publish it again from its file, or roll back",
            reasons=("the stored text was changed after it was approved",),
        )
    return stored.version, cedar.load(stored.policies, VERBS)


def _of(tx: Tx) -> InForce:
    bind = tx.session.bind
    engine = bind.sync_engine if isinstance(bind, AsyncEngine) else bind
    if engine is None:
        raise TypeError("a transaction without a database")
    return _KNOWN.setdefault(engine, InForce())
