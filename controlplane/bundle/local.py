"""Artefacts that no index has: given as files in folders, known by their digest, and looked into before they go in."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any  # the JSON of others has no narrower type

from controlplane.bundle.lock import Artefact
from controlplane.kit.errors import BadInput, Refused

LARGEST_JSON_BYTES = 4 << 20


def find_named(filename: str, folders: tuple[Path, ...]) -> Path:
    """Return the file of that name; raises BadInput that says where it was looked for."""
    found = [path for folder in folders for path in sorted(folder.rglob(filename)) if path.is_file()]
    if not found:
        looked = ", ".join(str(folder) for folder in folders) or "no folder was given"
        raise BadInput(f"{filename} is not there ({looked})", remedy="give the folder that holds it: --from FOLDER")
    return found[0]


def find_local(artefact: Artefact, folders: tuple[Path, ...]) -> Path:
    """Return the file of a pinned artefact; raises BadInput or Refused when it is not that file."""
    path = find_named(artefact.filename, folders)
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if (sha256, path.stat().st_size) != (artefact.sha256, artefact.size_bytes):
        raise Refused(
            f"{path} is not the file that the lock pins: its SHA-256 is {sha256[:16]}…, "
            f"pinned is {artefact.sha256[:16]}…",
            remedy="bring the pinned file, or lock anew: redoubt bundle lock --from FOLDER",
            code="artefact_altered",
        )
    return path


def check_inside(kind: str, path: Path) -> None:
    """Raise Refused when an image or a collection does not hold what it says it holds."""
    if kind == "oci":
        _check_image(path)
    elif kind == "collection":
        _check_collection(path)


def _check_image(path: Path) -> None:
    """Check an OCI layout: every blob has the digest that is its name, and all that the index names is there."""
    digests, index, children = _image(path)
    for named in _named(index):
        if named not in digests:
            raise _broken(path, f"its index names {named}, which is not in it")
    for blob in children:
        for named in _named(blob):
            if named not in digests:
                raise _broken(path, f"a manifest in it names {named}, which is not in it")


def _image(path: Path) -> tuple[set[str], Any, list[Any]]:
    digests: set[str] = set()
    children: list[Any] = []
    index: Any = None
    with _tar(path) as tar:
        for entry in tar:
            name = entry.name.removeprefix("./")
            if name == "index.json":
                index = json.loads(_bytes(tar, entry))
            elif name.startswith("blobs/") and entry.isreg():
                algorithm, _, hexadecimal = name.removeprefix("blobs/").partition("/")
                if _digest(tar, entry, algorithm) != hexadecimal:
                    raise _broken(path, f"{name} does not have the digest that is its name")
                digests.add(f"{algorithm}:{hexadecimal}")
                children += _manifest(tar, entry)
    if index is None:
        raise _broken(path, "it has no index.json, so it is no OCI layout")
    return digests, index, children


def _manifest(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> list[Any]:
    if entry.size > LARGEST_JSON_BYTES:
        return []
    try:
        blob = json.loads(_bytes(tar, entry))
    except ValueError:
        return []
    return [blob] if isinstance(blob, dict) and blob.get("schemaVersion") == 2 else []


def _named(blob: Any) -> list[str]:
    parts = [*blob.get("manifests", ()), *blob.get("layers", ()), *([blob["config"]] if "config" in blob else ())]
    return [str(part["digest"]) for part in parts]


def _check_collection(path: Path) -> None:
    """Check an Ansible collection: MANIFEST.json vouches for FILES.json, which vouches for every file."""
    with _tar(path) as tar:
        seen = {entry.name.removeprefix("./"): _digest(tar, entry, "sha256") for entry in tar if entry.isreg()}
        manifest, files = (_json_of(path, tar, name) for name in ("MANIFEST.json", "FILES.json"))
    if seen["FILES.json"] != manifest["file_manifest_file"]["chksum_sha256"]:
        raise _broken(path, "FILES.json is not the one that its MANIFEST.json names")
    listed = {file["name"]: file["chksum_sha256"] for file in files["files"] if file["ftype"] == "file"}
    for name in sorted({*listed, *seen} - {"MANIFEST.json", "FILES.json"}):
        if listed.get(name) != seen.get(name):
            raise _broken(path, f"{name} is not the one that its FILES.json names")


def _json_of(path: Path, tar: tarfile.TarFile, name: str) -> Any:
    try:
        return json.loads(_bytes(tar, tar.getmember(name)))
    except KeyError:
        raise _broken(path, f"it has no {name}") from None


def _digest(tar: tarfile.TarFile, entry: tarfile.TarInfo, algorithm: str) -> str:
    stream = tar.extractfile(entry)
    if stream is None or algorithm not in {"sha256", "sha512"}:
        return ""
    digest = hashlib.new(algorithm)
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _bytes(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(entry)
    return stream.read(LARGEST_JSON_BYTES) if stream else b""


def _tar(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:*")
    except tarfile.TarError as error:
        raise _broken(path, str(error)) from None


def _broken(path: Path, reason: str) -> Refused:
    return Refused(f"{path.name}: {reason}", remedy="export it again where it was made", code="artefact_broken")
