"""Proving who one is. A guess is counted before it is checked, and forgiven when it was right."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.factors import store
from controlplane.domains.factors.rules import codes, passkeys, passwords, throttle
from controlplane.domains.factors.tables import Challenge, Passkey
from controlplane.domains.factors.types import (
    Claim,
    Factor,
    FactorsHeld,
    PasskeyHeld,
    Proof,
    SecondFactorNeeded,
    TooManyGuesses,
    WrongFactor,
)
from controlplane.domains.policy import service as policy
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput, Conflict, Denied, NotFound, RedoubtError, Unauthenticated
from controlplane.kit.ids import new_id
from controlplane.kit.password_hash import BoundedHasher
from controlplane.kit.sealed import Sealer
from controlplane.kit.tx import Database, Tx

CHALLENGE_LIFETIME = timedelta(minutes=5)
MOST_PASSKEYS = 20


@dataclass(frozen=True)
class Means:
    """What factors are checked with, made once by `main`.

    `aside` is a small pool for what must outlive a refused request, which rolls back; in the pool of the requests a
    flood of sign-ins would hold every connection and wait for another one. `origin` is how browsers reach this site.
    """

    aside: Database
    hasher: BoundedHasher
    sealer: Sealer
    site: str
    origin: str
    common_passwords: frozenset[str] = field(repr=False)


@dataclass(frozen=True)
class NewTotp:
    """Shown this once; `uri` is what the QR code says."""

    secret: str
    uri: str


@asynccontextmanager
async def guessing(tx: Tx, actor: Actor, means: Means, claim: Claim, factor: Factor) -> AsyncIterator[None]:
    """Check one guess inside: Unauthenticated says it was wrong. Raises TooManyGuesses, also for a right one."""
    await _may_prove(tx, actor)
    charges = await _charge(means, claim)
    try:
        yield
    except Unauthenticated:
        async with means.aside.transaction() as own:
            await audit.record(own, actor, "factor.refused", claim.principal_id or "nobody", factor=factor)
        raise
    except RedoubtError:  # not a wrong guess: a busy server, or something else in the request
        await _forgive(means, charges)
        raise
    await _forgive(means, charges)
    await audit.record(tx, actor, "factor.proved", claim.principal_id or "nobody", factor=factor)


async def prove(
    tx: Tx, actor: Actor, means: Means, claim: Claim, *, password: str, otp: str = "", recovery_code: str = ""
) -> Proof:
    """Check a whole sign-in by typed factors. Raises SecondFactorNeeded when the password is right and not enough."""
    principal_id = await verify_password(tx, actor, means, claim, password=password)
    if not await has_second_factor(tx, principal_id=principal_id):
        return Proof(principal_id, (Factor.PASSWORD,), strong=False)
    second = await _prove_second(tx, actor, means, claim, otp=otp, recovery_code=recovery_code)
    return Proof(principal_id, (Factor.PASSWORD, second), strong=True)


async def prove_again(
    tx: Tx, actor: Actor, means: Means, claim: Claim, *, otp: str = "", recovery_code: str = ""
) -> Proof:
    """Check a second factor of somebody who is signed in, before a dangerous verb."""
    _require_own(actor, claim.principal_id)
    second = await _prove_second(tx, actor, means, claim, otp=otp, recovery_code=recovery_code)
    return Proof(actor.id, (second,), strong=True)


async def _prove_second(tx: Tx, actor: Actor, means: Means, claim: Claim, *, otp: str, recovery_code: str) -> Factor:
    if otp:
        await verify_totp(tx, actor, means, claim, code=otp)
        return Factor.TOTP
    if recovery_code:
        await verify_recovery_code(tx, actor, means, claim, code=recovery_code)
        return Factor.RECOVERY_CODE
    raise SecondFactorNeeded


async def verify_password(tx: Tx, actor: Actor, means: Means, claim: Claim, *, password: str) -> str:
    """Return the principal's id; raises WrongFactor, as late and in the same words for a name that nobody has."""
    async with guessing(tx, actor, means, claim, Factor.PASSWORD):
        known = claim.principal_id and await store.find_password(tx, claim.principal_id)
        digest = known.digest if known else None
        given = passwords.prepared(password)[: passwords.MOST + 1]
        if not await means.hasher.verify(digest, given) or claim.principal_id is None or digest is None:
            raise _wrong("name or password is wrong")
    if means.hasher.is_outdated(digest):
        await store.mark_rehashed(tx, claim.principal_id, digest, await means.hasher.hash(given))
    if not await has_second_factor(tx, principal_id=claim.principal_id):
        await _settle(means, claim)
    return claim.principal_id


async def verify_totp(tx: Tx, actor: Actor, means: Means, claim: Claim, *, code: str) -> None:
    """Use up one time step; raises WrongFactor for a wrong code and for a right one that was used."""
    async with guessing(tx, actor, means, claim, Factor.TOTP):
        known = claim.principal_id and await store.find_totp(tx, claim.principal_id)
        if not known or known.sealed is None:
            raise _wrong_code(tx)
        secret = means.sealer.open(known.sealed, _place(known.principal_id)).decode()
        step = codes.step_of(secret, code, tx.now)
        if step is None or not await store.mark_step_used(tx, known.principal_id, known.sealed, step):
            raise _wrong_code(tx)
    await _settle(means, claim)


async def verify_recovery_code(tx: Tx, actor: Actor, means: Means, claim: Claim, *, code: str) -> None:
    """Use up one recovery code."""
    async with guessing(tx, actor, means, claim, Factor.RECOVERY_CODE):
        typed = codes.typed_recovery_code(code)
        if (
            typed is None
            or claim.principal_id is None
            or not await store.mark_recovery_code_used(tx, claim.principal_id, sha256_hex(typed.encode()))
        ):
            raise _wrong("the recovery code is wrong or used")
    await _settle(means, claim)


async def verify_passkey(
    tx: Tx, actor: Actor, means: Means, *, source: str, answer: str, principal_id: str = ""
) -> Proof:
    """Check a browser's answer; `principal_id` is whom the question was put to, "" for whoever has a key."""
    party = passkeys.relying_party(means.origin)
    read = passkeys.read_authentication(answer)
    known = await store.find_passkey(tx, read.credential_id)
    claim = Claim(known.principal_id if known else None, read.credential_id.hex(), source)
    async with guessing(tx, actor, means, claim, Factor.PASSKEY):
        asked = await _spend_challenge(means, read.challenge, "authenticate")
        if known is None or asked != principal_id or not _is_owner(known, principal_id, read.user_handle):
            raise _wrong("the passkey was not accepted")
        count = passkeys.verified_count(answer, read.challenge, party, known.public_key, known.sign_count)
        if count is None or not await store.mark_passkey_used(tx, known, count):
            await _look_for_a_copy(means, actor, known, party, answer, read.challenge)
            raise _wrong("the passkey was not accepted")
    await _settle(means, claim)
    return Proof(known.principal_id, (Factor.PASSKEY,), strong=True)


def _is_owner(known: Passkey, principal_id: str, user_handle: bytes | None) -> bool:
    return principal_id in {"", known.principal_id} and user_handle in {None, known.principal_id.encode()}


async def _look_for_a_copy(
    means: Means, actor: Actor, known: Passkey, party: passkeys.RelyingParty, answer: str, challenge: bytes
) -> None:
    """A good signature with a counter that did not move on means that two devices hold this key."""
    if passkeys.verified_count(answer, challenge, party, known.public_key, 0) is None:
        return
    async with means.aside.transaction() as own:
        await audit.record(own, actor, "passkey.copy_suspected", known.principal_id, passkey=known.id)


async def ask_passkey(tx: Tx, actor: Actor, means: Means, *, principal_id: str = "") -> str:
    """Return the options for the browser's passkey dialogue; the challenge counts once, for five minutes."""
    await _may_prove(tx, actor)
    party = passkeys.relying_party(means.origin)
    known = [key.credential_id for key in await store.list_passkeys(tx, principal_id)] if principal_id else []
    options = passkeys.authentication_options(party, known)
    await _keep_challenge(tx, options, "authenticate", principal_id)
    return options


async def set_password(
    tx: Tx, actor: Actor, means: Means, *, principal_id: str, password: str, staff: bool, context: frozenset[str]
) -> None:
    """Set one's own password; raises BadInput with every reason. `context`: one's names, one's project."""
    await _may_change(tx, actor, principal_id)
    given = passwords.prepared(password)
    reasons = passwords.faults(given, staff=staff, common=means.common_passwords, context=context | {means.site})
    if reasons:
        raise BadInput(f"this password is refused: {reasons[0]}", remedy="several unusual words make a good one")
    await store.mark_password(tx, principal_id, await means.hasher.hash(given))
    await audit.record(tx, actor, "factor.changed", principal_id, factor=Factor.PASSWORD)


async def begin_totp(tx: Tx, actor: Actor, means: Means, *, principal_id: str, name: str) -> NewTotp:
    """Make a secret for an authenticator app; it counts when a code of it was shown, until then the old one does."""
    await _may_change(tx, actor, principal_id)
    secret = codes.new_totp_secret()
    await store.mark_totp_pending(tx, principal_id, means.sealer.seal(secret.encode(), _place(principal_id)))
    await audit.record(tx, actor, "factor.begun", principal_id, factor=Factor.TOTP)
    return NewTotp(secret, codes.totp_uri(secret, account=name, site=means.site))


async def confirm_totp(tx: Tx, actor: Actor, means: Means, *, principal_id: str, code: str) -> None:
    """Let the new secret count; raises BadInput that shows this server's time."""
    await _may_change(tx, actor, principal_id)
    known = await store.find_totp(tx, principal_id)
    if known is None or known.pending is None:
        raise Conflict("no authenticator is being set up", remedy="begin again")
    secret = means.sealer.open(known.pending, _place(principal_id)).decode()
    step = codes.step_of(secret, code, tx.now)
    if step is None or not await store.mark_totp_confirmed(tx, principal_id, known.pending, step):
        raise BadInput(_wrong_code(tx).detail, remedy="compare the clock of your device with the time above")
    await audit.record(tx, actor, "factor.changed", principal_id, factor=Factor.TOTP)


async def make_recovery_codes(tx: Tx, actor: Actor, *, principal_id: str) -> tuple[str, ...]:
    """Return ten new codes, shown this once; earlier ones end."""
    await _may_change(tx, actor, principal_id)
    made = codes.new_recovery_codes()
    await store.add_recovery_codes(tx, principal_id, [sha256_hex(code.encode()) for code in made])
    await audit.record(tx, actor, "factor.changed", principal_id, factor=Factor.RECOVERY_CODE)
    return made


async def begin_passkey(tx: Tx, actor: Actor, means: Means, *, principal_id: str, name: str) -> str:
    """Return the options for the browser to make a key; raises Refused on a site that is reached by address."""
    await _may_change(tx, actor, principal_id)
    party = passkeys.relying_party(means.origin)
    known = await store.list_passkeys(tx, principal_id)
    if len(known) >= MOST_PASSKEYS:
        raise Conflict(f"{MOST_PASSKEYS} passkeys are there already", remedy="remove one that is not used")
    options = passkeys.registration_options(party, means.site, principal_id, name, [k.credential_id for k in known])
    await _keep_challenge(tx, options, "register", principal_id)
    await audit.record(tx, actor, "factor.begun", principal_id, factor=Factor.PASSKEY)
    return options


async def finish_passkey(
    tx: Tx, actor: Actor, means: Means, *, principal_id: str, name: str, answer: str
) -> PasskeyHeld:
    """Keep the key that the browser made."""
    await _may_change(tx, actor, principal_id)
    party = passkeys.relying_party(means.origin)
    challenge = passkeys.read_registration(answer).challenge
    if await _spend_challenge(means, challenge, "register") != principal_id:
        raise BadInput("this passkey was not asked for, or too long ago", remedy="begin again")
    made = passkeys.verify_new(answer, challenge, party)
    key = PasskeyHeld(new_id("pk"), name, tx.now, None)
    row = {"id": key.id, "principal_id": principal_id, "name": name, "created_at": tx.now}
    if not await store.add_passkey(tx, row | vars(made)):
        raise Conflict("this passkey is known already", remedy="use another device, or remove the old entry first")
    await audit.record(tx, actor, "factor.changed", principal_id, factor=Factor.PASSKEY, passkey=key.id)
    return key


async def remove_passkey(tx: Tx, actor: Actor, *, principal_id: str, passkey_id: str) -> None:
    """Forget one's own key; raises Conflict for the last second factor."""
    await _may_change(tx, actor, principal_id)
    held = await _held(tx, principal_id)
    if passkey_id not in {key.id for key in held.passkeys}:
        raise NotFound(f"no passkey {passkey_id}", remedy="list your factors")
    if held.totp_since is None and len(held.passkeys) == 1:
        raise _last_factor()
    await store.delete_passkey(tx, principal_id, passkey_id)
    await audit.record(tx, actor, "factor.removed", principal_id, factor=Factor.PASSKEY, passkey=passkey_id)


async def remove_totp(tx: Tx, actor: Actor, *, principal_id: str) -> None:
    """Forget one's own authenticator app; raises Conflict for the last second factor."""
    await _may_change(tx, actor, principal_id)
    if not (await _held(tx, principal_id)).passkeys:
        raise _last_factor()
    await store.delete_totp(tx, principal_id)
    await audit.record(tx, actor, "factor.removed", principal_id, factor=Factor.TOTP)


async def reset_factors(tx: Tx, actor: Actor, *, principal_id: str) -> None:
    """Forget all that somebody proves itself with, because it is lost; the caller ends sessions and enrols anew."""
    await policy.require(tx, actor, "factor.reset", principal_id)
    await store.delete_everything_of(tx, principal_id)
    await audit.record(tx, actor, "factor.reset", principal_id)


async def list_factors(tx: Tx, actor: Actor, *, principal_id: str) -> FactorsHeld:
    """Return what a principal holds: one's own, or anybody's for those who may review."""
    if actor.id == principal_id:
        await policy.require(tx, actor, "factor.read", principal_id)
    else:
        await policy.require(tx, actor, "factor.review", principal_id)
    return await _held(tx, principal_id)


async def has_second_factor(tx: Tx, *, principal_id: str) -> bool:
    """Say whether a password alone is not enough for this principal."""
    return (await _held(tx, principal_id)).has_second


async def _held(tx: Tx, principal_id: str) -> FactorsHeld:
    password = await store.find_password(tx, principal_id)
    totp = await store.find_totp(tx, principal_id)
    keys = await store.list_passkeys(tx, principal_id)
    return FactorsHeld(
        None if password is None else password.set_at,
        None if totp is None else totp.since,
        await store.count_recovery_codes(tx, principal_id),
        tuple(PasskeyHeld(key.id, key.name, key.created_at, key.last_used_at) for key in keys),
    )


async def _may_prove(tx: Tx, actor: Actor) -> None:
    if actor.role is Role.NEWCOMER:
        await policy.require(tx, actor, "factor.prove", "site")
    else:
        await policy.require(tx, actor, "factor.prove_again", actor.id)


async def _may_change(tx: Tx, actor: Actor, principal_id: str) -> None:
    """Ask for the first enrolment, or for a change, which needs a second factor shown just now."""
    _require_own(actor, principal_id)
    if await has_second_factor(tx, principal_id=principal_id):
        await policy.require(tx, actor, "factor.change", principal_id)
    else:
        await policy.require(tx, actor, "factor.enrol", principal_id)


def _require_own(actor: Actor, principal_id: str | None) -> None:
    if actor.id != principal_id:
        raise Denied(f"{actor.id} may not touch the factors of {principal_id}", remedy="everybody changes his own")


async def _charge(means: Means, claim: Claim) -> dict[str, throttle.Count]:
    """Count a guess at the account and from the source; raises TooManyGuesses when either has to wait."""
    async with means.aside.transaction() as own:
        counts = await store.get_counts(own, list(throttle.subjects_of(claim)))
        wait_s = max(throttle.wait_s(count, own.now) for count in counts.values())
        if wait_s:
            raise TooManyGuesses(wait_s)
        limits = throttle.subjects_of(claim)
        charges = {s: throttle.charged(count, own.now, limits[s]) for s, count in counts.items()}
        for subject, count in charges.items():
            await store.mark_count(own, subject, count)
        await store.delete_old_counts(own)
    return charges


async def _forgive(means: Means, charges: dict[str, throttle.Count]) -> None:
    async with means.aside.transaction() as own:
        for subject, count in (await store.get_counts(own, list(charges))).items():
            await store.mark_count(own, subject, throttle.forgiven(count, charges[subject], own.now))


async def _settle(means: Means, claim: Claim) -> None:
    """All that this account needs was shown: its count starts again. The source's does not."""
    async with means.aside.transaction() as own:
        await store.mark_count(own, throttle.account_of(claim), throttle.unused(own.now))


async def _keep_challenge(tx: Tx, options: str, purpose: str, principal_id: str) -> None:
    digest = sha256_hex(passkeys.challenge_of(options).encode())
    row = Challenge(sha256=digest, purpose=purpose, principal_id=principal_id, expires_at=tx.now + CHALLENGE_LIFETIME)
    await store.add_challenge(tx, row)


async def _spend_challenge(means: Means, challenge: bytes, purpose: str) -> str | None:
    """Use a challenge up, whatever comes of the request; return whom it was put to."""
    async with means.aside.transaction() as own:
        return await store.mark_challenge_used(own, sha256_hex(passkeys.challenge_text(challenge).encode()), purpose)


def _place(principal_id: str) -> str:
    return f"totp:{principal_id}"


def _wrong(detail: str) -> WrongFactor:
    return WrongFactor(detail, remedy="try again; each wrong attempt makes the next wait longer", code="wrong_factor")


def _wrong_code(tx: Tx) -> WrongFactor:
    return _wrong(f"the code is wrong or was used; it is {tx.now:%H:%M:%S} UTC here")


def _last_factor() -> Conflict:
    return Conflict("this is the last second factor", remedy="add another one first")
