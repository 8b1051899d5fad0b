"""A small signed bundle, made without a network."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.bundle.archive import files_below, folder_head, pack_bundle
from controlplane.bundle.armour import clear_signed
from controlplane.bundle.contents import IN_RELEASE, MANIFEST, RELEASE, is_beside
from controlplane.bundle.manifest import Manifest, carry, to_bytes
from controlplane.bundle.roots import add_root_signature, new_root, trust_key
from controlplane.bundle.signing import signed_trust, write_trust
from controlplane.bundle.trust import SignedRoot, root_bytes
from controlplane.bundle.verify import Trust
from controlplane.kit.canonical import sha256_hex

APT_KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

a2V5
=PCOl
-----END PGP PUBLIC KEY BLOCK-----
"""
FEATURES = ("base", "control-plane", "depot", "gateway", "gpu-driver", "inference", "postgres", "slurm", "time")
MADE_AT = datetime.now(UTC).replace(microsecond=0)


def signed_root(*keys: Ed25519PrivateKey, threshold: int = 1, signers=None, before=None, **given) -> SignedRoot:
    """Return a root of these keys, signed by all of them unless `signers` names others."""
    listed = [trust_key(f"signer {number}", key.public_key()) for number, key in enumerate(keys, start=1)]
    until = given.pop("expires_at", MADE_AT + timedelta(days=1000))
    root = new_root(listed, threshold, [APT_KEY], expires_at=until, **given)
    for key in keys if signers is None else signers:
        root = add_root_signature(root, key, before)
    return root


class SmallBundle:
    """A folder with a few files, its tar, its digest, and the trust root and key it is signed with."""

    def __init__(self, home: Path, *, wheel: bytes = b"wheel", key=None, root=None, **facts) -> None:
        self.home, self.folder, self.archive = home, home / "bundle", home / "bundle.tar"
        self.key = key or Ed25519PrivateKey.generate()
        self.root = root or signed_root(self.key)
        self.facts = facts
        self.root_file = home / "root.json"
        self.folder.mkdir(parents=True)
        self.root_file.write_bytes(root_bytes(self.root))
        for name, content in (("apt/pool/tool_1.deb", b"deb " * 5000), ("wheels/files/tool-1.whl", wheel)):
            self.write(name, content)
        self.write("lock.json", b"{}")
        self.write(RELEASE, b"Origin: Redoubt\n-dashed line\n")
        self.write(IN_RELEASE, clear_signed(b"Origin: Redoubt\n-dashed line\n", bytes(range(90)), "SHA512"))
        self.digest = self.seal()

    def write(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def trust(self, **given) -> Trust:
        """What a workstation trusts that pins this bundle's root."""
        return Trust(self.home / "cache", self.root_file, **given)

    def seal(self, files=None) -> str:
        """Sign a manifest over the files of the folder, or over these, and pack the tar; return the digest."""
        present = (p for p in files_below(self.folder) if not is_beside(p.relative_to(self.folder).as_posix()))
        raw = to_bytes(self.manifest(carry(self.folder, present) if files is None else files))
        (self.folder / MANIFEST).write_bytes(raw)
        self.sign(self.key, roots=[self.root], afresh=True)
        pack_bundle(self.folder, self.archive)
        return sha256_hex(raw)

    def manifest(self, files) -> Manifest:
        facts = {
            "version": "1", "serial": 1, "floor": 1, "created_at": MADE_AT, "expires_at": MADE_AT + timedelta(days=365),
            "suite": "trixie", "architecture": "amd64", "lock": sha256_hex(b"{}"), "features": FEATURES, "models": (),
        }  # fmt: skip
        return Manifest(**{**facts, **self.facts, "files": files})

    def sign(self, *keys: Ed25519PrivateKey, roots=(), afresh: bool = False) -> None:
        """Add signatures to the folder; `afresh` forgets those of before."""
        for path in self.folder.glob("trust/*") if afresh else ():
            path.unlink()
        for key in keys:
            trust, _ = signed_trust(folder_head(self.folder), key, roots)
            write_trust(self.folder, trust)
