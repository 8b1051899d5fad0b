"""A small image and a small collection, as the tools that make them lay them out."""

import hashlib
import io
import json
import tarfile


def image(*, blob: bytes = b"layer", named: str = "") -> bytes:
    """Return an OCI layout as a tar; `named` is a digest that its manifest names instead of that of its layer."""
    layer = f"sha256:{hashlib.sha256(b'layer').hexdigest()}"
    config = b"{}"
    manifest = json.dumps({
        "schemaVersion": 2, "config": {"digest": f"sha256:{hashlib.sha256(config).hexdigest()}"},
        "layers": [{"digest": named or layer}],
    }).encode()  # fmt: skip
    digest = hashlib.sha256(manifest).hexdigest()
    index = json.dumps({"schemaVersion": 2, "manifests": [{"digest": f"sha256:{digest}"}]}).encode()
    return _tar({
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index, f"blobs/sha256/{digest}": manifest,
        f"blobs/sha256/{hashlib.sha256(config).hexdigest()}": config, f"blobs/sha256/{layer[7:]}": blob,
    }, "w")  # fmt: skip


def collection(*, role: bytes = b"- debug:\n", extra: dict[str, bytes] | None = None) -> bytes:
    """Return an Ansible collection; its list of files is made for the role `- debug:`."""
    listed = hashlib.sha256(b"- debug:\n").hexdigest()
    name = "roles/x/tasks/main.yml"
    files = json.dumps({"files": [
        {"name": ".", "ftype": "dir", "chksum_sha256": None}, {"name": name, "ftype": "file", "chksum_sha256": listed},
    ]}).encode()  # fmt: skip
    manifest = {"file_manifest_file": {"chksum_sha256": hashlib.sha256(files).hexdigest()}}
    content = {"MANIFEST.json": json.dumps(manifest).encode(), "FILES.json": files, name: role, **(extra or {})}
    return _tar(content, "w:gz")


def _tar(files: dict[str, bytes], mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]  # the mode is one of two
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
