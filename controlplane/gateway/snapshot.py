"""The signed snapshot: believed only after its signature, kept on disk, fetched for ever."""

import asyncio
import fcntl
from collections.abc import Callable
from pathlib import Path

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from controlplane.contracts.snapshot import SignedSnapshot, Snapshot
from controlplane.domains.policy.types import BrokenPolicies
from controlplane.gateway.admission import judge_by
from controlplane.gateway.snapshot_shapes import read_snapshot, read_version
from controlplane.kit.crypto import is_signed_by
from controlplane.kit.durable_files import replace_file
from controlplane.kit.errors import Refused, Unavailable
from controlplane.kit.memory import give_back

log = structlog.get_logger()

_PATH = "/api/v1/gateway/snapshot"
WAIT_S = 2.0  # the control plane answers when there is a newer one, or after this long
_NO_NEWER = 204
_OK = 200


class SnapshotRefused(Refused):
    """A snapshot that must not be served by."""


def verify(signed: SignedSnapshot, *, key: Ed25519PublicKey, site: str, after: int) -> Snapshot:
    """Return the snapshot in its envelope; expiry is judged at every request, not here. Raises SnapshotRefused."""
    payload = signed.payload.encode()
    if not is_signed_by(key, payload, signed.signature):
        raise SnapshotRefused(
            "the snapshot is not signed by this site's control plane",
            remedy="compare snapshot_public_key with the signing key",
        )
    try:
        snapshot = read_snapshot(payload)
    except ValueError as error:
        raise SnapshotRefused(
            f"the snapshot cannot be read: {error}", remedy="install one version everywhere"
        ) from None
    if snapshot.site != site:
        raise SnapshotRefused(
            f"the snapshot is of site {snapshot.site}, not {site}", remedy="correct control_plane.url"
        )
    try:
        judge_by(snapshot.policies)
    except BrokenPolicies as error:
        detail = f"the policies of the snapshot cannot be read: {error}"
        raise SnapshotRefused(detail, remedy="install one version everywhere") from None
    if snapshot.version < after:
        detail = f"the snapshot has version {snapshot.version} and {after} was served already"
        raise SnapshotRefused(
            detail,
            remedy="after a restored database: stop the gateway, delete snapshot.json in its state_dir alone, start it",
        )
    return snapshot


class SnapshotFile:
    """The last snapshot that was believed, for a start without the control plane. Shared by all workers."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "snapshot.json"
        self._lock = state_dir / "snapshot.lock"

    def load(self) -> SignedSnapshot | None:
        """Return what was saved last, None when there is nothing that can be read."""
        try:
            return SignedSnapshot.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            log.warning("snapshot.unreadable", file=str(self._file), error=str(error))
            return None

    def save(self, signed: SignedSnapshot, version: int) -> None:
        """Replace the file unless another worker has saved a newer one. Raises OSError."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock.open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            saved = self.load()
            if saved is None or version > _version_of(saved):
                replace_file(self._file, signed.model_dump_json().encode())


def _version_of(signed: SignedSnapshot) -> int:
    try:
        return read_version(signed.payload)
    except ValueError:
        return -1


class SnapshotFollower:
    """Keeps the gateway on the newest snapshot. `bearer` is asked before every poll, so that a token may be renewed."""

    def __init__(
        self,
        *,
        http: httpx.AsyncClient,
        file: SnapshotFile,
        key: Ed25519PublicKey,
        site: str,
        bearer: Callable[[], str | None],
        adopt: Callable[[Snapshot], None],
    ) -> None:
        self._http = http
        self._file = file
        self._key = key
        self._site = site
        self._bearer = bearer
        self._adopt = adopt
        self._version = 0

    def start_from_file(self) -> None:
        """Serve by the last snapshot at once; the control plane may be away."""
        signed = self._file.load()
        if signed is None:
            return
        try:
            self._believe(signed)
        except (SnapshotRefused, ValueError) as error:
            log.warning("snapshot.refused", source="file", error=str(error))
        give_back()

    async def poll(self) -> None:
        """Fetch once. Raises Unavailable or SnapshotRefused; what is served stays what it was."""
        signed = await self._fetch()
        if signed is None:
            return
        before = self._version
        self._believe(signed)
        if self._version > before:
            await asyncio.to_thread(self._file.save, signed, self._version)
            give_back()

    async def _fetch(self) -> SignedSnapshot | None:
        bearer = self._bearer()
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        try:
            response = await self._http.get(_PATH, params={"after": self._version, "wait_s": WAIT_S}, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"the control plane does not answer: {error!r}", remedy="look at its service") from None
        if response.status_code == _NO_NEWER:
            return None
        if response.status_code != _OK:
            detail = f"the control plane answered {response.status_code} to the snapshot request"
            raise Unavailable(detail, remedy="look at the api's log and at this gateway's certificate")
        try:
            return SignedSnapshot.model_validate_json(response.content)
        except ValidationError:
            raise SnapshotRefused("the answer is no signed snapshot", remedy="correct control_plane.url") from None

    def _believe(self, signed: SignedSnapshot) -> None:
        snapshot = verify(signed, key=self._key, site=self._site, after=self._version)
        if snapshot.version == self._version:
            return
        self._adopt(snapshot)
        self._version = snapshot.version
        log.info(
            "snapshot.accepted",
            version=snapshot.version,
            endpoints=len(snapshot.endpoints),
            keys=len(snapshot.keys),
            expires_at=snapshot.expires_at.isoformat(),
        )
