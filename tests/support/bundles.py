"""A small signed bundle, made without a network."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.bundle.archive import files_below, pack_bundle
from controlplane.bundle.manifest import MANIFEST, SIGNATURE, Manifest, carry, sign_manifest, to_bytes
from controlplane.kit.canonical import sha256_hex


class SmallBundle:
    """A folder with two files, its tar, its digest and the key it is signed with."""

    def __init__(self, home: Path, *, wheel: bytes = b"wheel") -> None:
        self.folder, self.archive = home / "bundle", home / "bundle.tar"
        self.key = Ed25519PrivateKey.generate()
        for name, content in (("apt/pool/tool_1.deb", b"deb " * 5000), ("wheels/files/tool-1.whl", wheel)):
            path = self.folder / name
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        self.digest = self.seal(carry(self.folder, files_below(self.folder)))

    def seal(self, files) -> str:
        """Sign a manifest over these files and pack the tar; return the digest."""
        manifest = Manifest(inputs="0" * 64, suite="redoubt", apt_key="key", features=("base",), models=(), files=files)
        raw = to_bytes(manifest)
        (self.folder / MANIFEST).write_bytes(raw)
        (self.folder / SIGNATURE).write_text(sign_manifest(self.key, raw))
        pack_bundle(self.folder, self.archive)
        return sha256_hex(raw)
