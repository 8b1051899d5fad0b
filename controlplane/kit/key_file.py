"""A signing key that is read from its file when it is needed, and is missed when the file is gone."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.kit.crypto import load_signing_key


class KeyFile:
    """Reads the key again only when the file is another one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._key: Ed25519PrivateKey | None = None

    def get(self) -> Ed25519PrivateKey | None:
        """Return the key, or None when the file is missing, unreadable or no Ed25519 key."""
        try:
            stat = self._path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen != self._seen:
                self._key, self._seen = None, None
                self._key, self._seen = load_signing_key(self._path), seen
        except (OSError, ValueError, TypeError):
            self._key, self._seen = None, None
        return self._key

    def is_there(self) -> bool:
        return self.get() is not None
