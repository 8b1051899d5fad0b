"""The keys of the one who builds bundles: Ed25519 for the manifest, OpenPGP for the package repository.

Without a root of their own they get one that needs this one signature; `roots` holds the chain of those in use.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from controlplane.bundle.command import run
from controlplane.bundle.roots import add_root_signature, new_root, trust_key
from controlplane.bundle.store import alone
from controlplane.bundle.trust import root_bytes
from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import load_signing_key, new_signing_key_pem, public_pem

ROOT_DAYS = 5 * 365
APT_IDENTITY = "Redoubt bundle <bundle@redoubt.invalid>"


@dataclass(frozen=True)
class BuilderKeys:
    """Files of one key directory; private ones are readable by their owner alone."""

    signing: Path
    public: Path
    apt_secret: Path
    apt_public: Path
    roots: Path


def builder_keys(folder: Path) -> BuilderKeys:
    """Return the keys of a folder, making those that are not there yet."""
    keys = BuilderKeys(
        folder / "bundle.key", folder / "bundle.pub", folder / "apt.key", folder / "apt.pub", folder / "trust"
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(folder / ".lock"):
        _make_missing(keys)
    return keys


def _make_missing(keys: BuilderKeys) -> None:
    if not keys.signing.exists():
        _write_private(keys.signing, new_signing_key_pem())
    if not keys.public.exists():
        keys.public.write_bytes(public_pem(load_signing_key(keys.signing)))
    if not keys.apt_public.exists():
        _make_apt_key(keys)
    if not any(keys.roots.glob("root.*.json")):
        _make_root(keys)


def _make_root(keys: BuilderKeys) -> None:
    signing = load_signing_key(keys.signing)
    until = SystemClock().now() + timedelta(days=ROOT_DAYS)
    mine = trust_key("builder", signing.public_key())
    root = add_root_signature(new_root([mine], 1, [keys.apt_public.read_text()], expires_at=until), signing, None)
    keys.roots.mkdir(exist_ok=True)
    (keys.roots / "root.1.json").write_bytes(root_bytes(root))


def clearsign(keys: BuilderKeys, source: Path, target: Path) -> None:
    """Write `target` as the clear-signed form of `source`."""
    with _keyring() as gpg:
        run([*gpg, "--import", str(keys.apt_secret)], "import the repository key")
        run([*gpg, "--clearsign", "--output", str(target), str(source)], "sign the package repository")


def _make_apt_key(keys: BuilderKeys) -> None:
    with _keyring() as gpg:
        run([*gpg, "--quick-gen-key", APT_IDENTITY, "ed25519", "sign", "never"], "make a repository key")
        secret = run([*gpg, "--armor", "--export-secret-keys"], "export the repository key")
        public = run([*gpg, "--armor", "--export"], "export the repository key")
    _write_private(keys.apt_secret, secret)
    keys.apt_public.write_bytes(public)


@contextmanager
def _keyring() -> Iterator[list[str]]:
    # A short path of its own: the agent's socket must fit 108 bytes, and the user's keyring is none of our business.
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:
        try:
            yield ["gpg", "--homedir", home, "--batch", "--yes", "--quiet", "--no-tty", "--passphrase", ""]
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)


def _write_private(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
