"""The authorization server's signing keys: read at the start of the api, turned while it runs."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.oauth.service import keys
from controlplane.kit.crypto import load_signing_key
from controlplane.kit.errors import BadInput
from controlplane.kit.tx import Database
from controlplane.main.settings import OauthSettings
from controlplane.web.oidc.issuer import Issuer

OTHERS = 0o077
KEEP_EVERY_S = 60.0


def make_issuer(origin: str, settings: OauthSettings | None) -> Issuer | None:
    """Read the root key; raises BadInput when others may read it, or when it is no Ed25519 key."""
    if settings is None:
        return None
    return Issuer(origin, _read_root(settings.signing_key), settings.machine_url)


async def keep_keys(database: Database, root: Ed25519PrivateKey) -> None:
    """Make the first keys, and turn them when their time has come."""
    async with database.transaction() as tx:
        await keys.keep_signing_keys(tx, SYSTEM, root=root)


def _read_root(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & OTHERS:
            raise BadInput(f"{path} can be read by others", remedy=f"chmod 600 {path}")
        return load_signing_key(path)
    except (OSError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path} holds no signing key: {error}", remedy="make one: openssl genpkey -algorithm ed25519"
        ) from None
