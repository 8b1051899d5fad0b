"""Sign-in of a device without a browser (RFC 8628): it asks here, somebody elsewhere says yes."""

import secrets

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.factors import service as factors
from controlplane.domains.factors.service import Means
from controlplane.domains.factors.types import Claim, Factor, WrongFactor
from controlplane.domains.identity.service import sessions
from controlplane.domains.oauth import rules, store
from controlplane.domains.oauth.service.clients import find_live_client
from controlplane.domains.oauth.tables import DeviceCode
from controlplane.domains.oauth.types import Client, DeviceRequest, DeviceStart, Granted, Refusal
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import Resource
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.crypto import new_token
from controlplane.kit.errors import NotFound, Refused
from controlplane.kit.ids import new_id
from controlplane.kit.tx import Tx

DEVICE_PREFIX = "rdd"


async def begin_device(
    tx: Tx, actor: Actor, *, client: Client, scopes: frozenset[str], host: str
) -> DeviceStart | Refusal:
    """Give a device its two codes; one it keeps, the other a person reads from its screen.

    Nobody has to sign in for this, so a source has a bounded number of codes that wait.
    """
    await policy.require(tx, actor, "device.begin", client.id)
    if await store.count_open_devices(tx, actor.source) >= rules.MOST_OPEN_DEVICES:
        return Refusal.SLOW_DOWN
    device_code = new_token(DEVICE_PREFIX)
    user_code = "".join(secrets.choice(rules.USER_CODE_LETTERS) for _ in range(rules.USER_CODE_LENGTH))
    row = DeviceCode(
        id=new_id("dev"),
        sha256=sha256_hex(device_code.encode()),
        user_code_sha256=sha256_hex(user_code.encode()),
        client_id=client.id,
        scopes=sorted(scopes),
        host=host,
        source=actor.source,
        interval_s=rules.FIRST_INTERVAL_S,
        created_at=tx.now,
        expires_at=tx.now + rules.DEVICE_LIFETIME,
    )
    store.add(tx, row)
    await tx.session.flush()
    await audit.record(tx, actor, "device.begun", row.id, client=client.id, host=host, source=actor.source)
    lifetime = int(rules.DEVICE_LIFETIME.total_seconds())
    return DeviceStart(device_code, rules.show_user_code(user_code), lifetime, rules.FIRST_INTERVAL_S)


async def get_device_request(tx: Tx, actor: Actor, means: Means, *, user_code: str) -> DeviceRequest:
    """Return who asks under a code. A guess counts like one at a password, and a session has five in all."""
    await policy.require(tx, actor, "device.read", Resource("device", actor.id))
    if await store.count_wrong_codes(tx, actor.session) >= rules.MOST_WRONG_CODES:
        raise Refused(
            "this session has typed five wrong codes",
            remedy="sign out, sign in, and read the code again",
            code="no_more_codes",
        )
    try:
        async with factors.guessing(tx, actor, means, Claim(actor.id, actor.id, actor.source), Factor.USER_CODE):
            return await _find_request(tx, user_code)
    except WrongFactor:
        async with means.aside.transaction() as own:
            await store.add_wrong_code(own, actor.session)
            await audit.record(own, actor, "device.guessed", "device", session=actor.session)
        raise _no_such_code() from None


async def _find_request(tx: Tx, user_code: str) -> DeviceRequest:
    row = await store.find_device_by_user_code(tx, sha256_hex(rules.normal_user_code(user_code).encode()))
    client = await find_live_client(tx, row.client_id) if row else None
    if row is None or client is None:
        raise WrongFactor("no sign-in waits under this code", remedy="read it again", code="no_such_code")
    return DeviceRequest(
        row.id, client.id, client.name, row.source, row.host, frozenset(row.scopes), row.created_at, row.expires_at
    )


async def decide_device(tx: Tx, actor: Actor, means: Means, *, user_code: str, approve: bool) -> DeviceRequest:
    """Say yes or no to a device; with a yes it signs in as the one who said it."""
    request = await get_device_request(tx, actor, means, user_code=user_code)
    if approve:
        await policy.require(tx, actor, "device.approve", Resource("device", actor.id))
    else:
        await policy.require(tx, actor, "device.deny", Resource("device", actor.id))
    decided = await store.mark_device_decided(
        tx,
        request.id,
        approved=approve,
        principal_id=actor.id,
        methods=[*filter(None, actor.method.split("+")), "device"],
    )
    if not decided:
        raise _no_such_code()
    event = "device.approved" if approve else "device.denied"
    await audit.record(
        tx, actor, event, request.id, client=request.client_id, host=request.host, device_source=request.source
    )
    return request


def _no_such_code() -> NotFound:
    return NotFound(
        "no sign-in waits under this code", remedy="read the code again; it lives for ten minutes", code="no_such_code"
    )


async def redeem_device(tx: Tx, actor: Actor, *, client: Client, device_code: str) -> Granted | Refusal:
    """Trade an approved device code for tokens, once; what a poll changes must be committed with its refusal."""
    await policy.require(tx, actor, "device.redeem", client.id)
    digest = sha256_hex(device_code.encode())
    row = await store.find_device_code(tx, digest)
    if row is None or row.client_id != client.id:
        return Refusal.INVALID
    if refusal := _refuse(tx, row):
        return refusal
    if row.principal_id is None or not await store.mark_device_code_used(tx, digest):
        return Refusal.INVALID
    issued = await sessions.start_session(
        tx, actor, principal_id=row.principal_id, methods=tuple(row.methods), client=client.id, source=actor.source,
        strong=False, scopes=tuple(row.scopes),
    )  # fmt: skip
    await audit.record(tx, actor, "device.redeemed", row.id, principal=row.principal_id, session=issued.session_id)
    return Granted(row.principal_id, frozenset(row.scopes), issued)


def _refuse(tx: Tx, row: DeviceCode) -> Refusal | None:
    """Say why the device gets nothing yet, or never; a poll that came too early makes the next one wait longer."""
    if row.used_at is not None:
        return Refusal.INVALID
    if tx.now >= row.expires_at:
        return Refusal.EXPIRED
    if row.decided_at is not None:
        return None if row.approved is True else Refusal.DENIED
    early = rules.polls_too_fast(tx.now, row.last_polled_at, row.interval_s)
    row.last_polled_at = tx.now
    if early:
        row.interval_s = min(row.interval_s + rules.SLOW_DOWN_S, rules.LONGEST_INTERVAL_S)
        return Refusal.SLOW_DOWN
    return Refusal.PENDING
