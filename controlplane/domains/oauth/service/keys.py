"""The keys that sign id_tokens: next, current and previous. The table holds public halves and states only."""

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from controlplane.domains.audit import service as audit
from controlplane.domains.audit.types import Actor
from controlplane.domains.oauth import rules, store
from controlplane.domains.oauth.tables import SigningKey
from controlplane.domains.oauth.types import KeyState
from controlplane.domains.policy import service as policy
from controlplane.kit.crypto import derive_signing_key
from controlplane.kit.errors import Unavailable
from controlplane.kit.ids import new_id
from controlplane.kit.jws import key_of_jwk, public_jwk
from controlplane.kit.tx import Tx


async def keep_signing_keys(tx: Tx, actor: Actor, *, root: Ed25519PrivateKey) -> None:
    """Make the first keys, turn them every 90 days, and drop the previous one a day later."""
    await policy.require(tx, actor, "signing_key.keep", "site")
    keys = {KeyState(row.state): row for row in await store.list_signing_keys(tx, lock=True)}
    current, previous = keys.get(KeyState.CURRENT), keys.get(KeyState.PREVIOUS)
    if current is None or rules.is_rotation_due(tx.now, current.state_since):
        await _rotate(tx, actor, root, list(keys.values()), emergency=False)
    elif previous is not None and tx.now - previous.state_since >= rules.KEY_AFTERLIFE:
        previous.state, previous.state_since = KeyState.RETIRED, tx.now
        await audit.record(tx, actor, "signing_key.retired", previous.kid)
    await store.delete_what_is_over(tx, tx.now - rules.KEY_AFTERLIFE)


async def rotate_signing_keys(tx: Tx, actor: Actor, *, root: Ed25519PrivateKey, emergency: bool) -> str:
    """Sign with the next key from now on; in an emergency every older key ends at once. Returns the key's name."""
    await policy.require(tx, actor, "signing_key.rotate", "site")
    keys = await store.list_signing_keys(tx, lock=True)
    return await _rotate(tx, actor, root, keys, emergency=emergency)


async def publish_keys(tx: Tx) -> list[dict[str, str]]:
    """Return the public keys, next one included, so that a relying party knows it before it signs."""
    return [_jwk(row) for row in await store.list_signing_keys(tx)]


async def verification_keys(tx: Tx) -> dict[str, Ed25519PublicKey]:
    return {row.kid: key_of_jwk(_jwk(row)) for row in await store.list_signing_keys(tx)}


async def current_key(tx: Tx, root: Ed25519PrivateKey) -> tuple[str, Ed25519PrivateKey]:
    """Return the key that signs now; raises Unavailable without one, and for another file than it came from."""
    for row in await store.list_signing_keys(tx):
        if row.state == KeyState.CURRENT:
            key = derive_signing_key(root, row.kid)
            if public_jwk(key.public_key(), row.kid)["x"] == row.x:
                return row.kid, key
            raise Unavailable(
                f"the file of signing keys does not hold {row.kid}",
                remedy="put the old file back, or make new keys: redoubt signing-key rotate --emergency",
                code="signing_key_missing",
            )
    raise Unavailable(
        "there is no signing key yet", remedy="look at the log of redoubt-api", code="signing_key_missing"
    )


async def _rotate(tx: Tx, actor: Actor, root: Ed25519PrivateKey, keys: Sequence[SigningKey], *, emergency: bool) -> str:
    """Move every key one state on; the unique index lets one of two askers do it."""
    waiting = None
    for row in keys:
        if row.state == KeyState.NEXT and not emergency and _is_of(root, row):
            waiting = row
            continue
        keeps = row.state == KeyState.CURRENT and not emergency
        row.state, row.state_since = (KeyState.PREVIOUS if keeps else KeyState.RETIRED), tx.now
    await tx.session.flush()
    current = waiting or _new_key(tx, root)
    current.state, current.state_since = KeyState.CURRENT, tx.now
    store.add(tx, current)
    await tx.session.flush()
    store.add(tx, _new_key(tx, root))
    await audit.record(tx, actor, "signing_key.rotated", current.kid, emergency=emergency)
    return current.kid


def _new_key(tx: Tx, root: Ed25519PrivateKey) -> SigningKey:
    kid = new_id("sig")
    x = public_jwk(derive_signing_key(root, kid).public_key(), kid)["x"]
    return SigningKey(kid=kid, x=x, state=KeyState.NEXT, created_at=tx.now, state_since=tx.now)


def _is_of(root: Ed25519PrivateKey, row: SigningKey) -> bool:
    return public_jwk(derive_signing_key(root, row.kid).public_key(), row.kid)["x"] == row.x


def _jwk(row: SigningKey) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": row.x, "kid": row.kid, "use": "sig", "alg": "EdDSA"}
