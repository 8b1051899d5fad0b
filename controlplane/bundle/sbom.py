"""What is in a bundle and under which licence: CycloneDX 1.6 for each artefact and for all, and a list of licences."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from controlplane.bundle.lock import Artefact, Kind, Lock
from controlplane.kit.canonical import canonical_json, sha256_hex

SPECIFICATION = "1.6"
KINDS: dict[Kind, str] = {
    "deb": "library",
    "wheel": "library",
    "oci": "container",
    "file": "file",
    "model": "machine-learning-model",
    "collection": "library",
}


def write_sbom(target: Path, lock: Lock, product: str) -> None:
    """Write one document an artefact, and `merged.cdx.json`, below `target`; the same lock gives the same bytes."""
    for artefact in lock.artefacts:
        folder = target / artefact.type
        folder.mkdir(parents=True, exist_ok=True)
        alone = _document([artefact], _component(artefact), lock)
        (folder / f"{artefact.filename}.cdx.json").write_bytes(canonical_json(alone))
    whole = {"type": "application", "name": "redoubt-bundle", "version": product, "bom-ref": "redoubt-bundle"}
    merged = _document(list(lock.artefacts), whole, lock)
    (target / "merged.cdx.json").write_bytes(canonical_json(merged))


def write_licences(target: Path, lock: Lock) -> None:
    """Write what licence each artefact states, and how many there are of each."""
    counts: dict[str, int] = {}
    for artefact in lock.artefacts:
        counts[artefact.licence] = counts.get(artefact.licence, 0) + 1
    fields = {"type", "name", "version", "licence"}
    rows = [artefact.model_dump(mode="json", include=fields) for artefact in lock.artefacts]
    target.write_bytes(canonical_json({"licences": counts, "artefacts": rows}))


def _document(artefacts: list[Artefact], about: Mapping[str, object], lock: Lock) -> dict[str, object]:
    digest = sha256_hex("\n".join(artefact.sha256 for artefact in artefacts).encode())
    serial = f"redoubt:{about['name']}:{digest}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, serial)}",
        "version": 1,
        "metadata": {"timestamp": lock.model_dump(mode="json")["created_at"], "component": about},
        "components": [_component(artefact) for artefact in artefacts],
    }


def _component(artefact: Artefact) -> dict[str, object]:
    return {
        "type": KINDS[artefact.type],
        "bom-ref": f"{artefact.type}:{artefact.name}@{artefact.version}",
        "name": artefact.name,
        "version": artefact.version,
        "purl": purl(artefact),
        "hashes": [{"alg": "SHA-256", "content": artefact.sha256}],
        # as it is stated: not every statement is an SPDX expression, and a wrong one would be worse than a name
        "licenses": [{"license": {"name": artefact.licence}}],
        "properties": [{"name": "redoubt:needed_by", "value": feature} for feature in artefact.needed_by],
    }


def purl(artefact: Artefact) -> str:
    """Return the package URL of an artefact."""
    name, version = quote(artefact.name, safe=""), quote(artefact.version, safe="~")
    match artefact.type:
        case "deb":
            architecture = artefact.filename.removesuffix(".deb").rpartition("_")[2]
            return f"pkg:deb/debian/{name}@{version}?arch={architecture}"
        case "wheel":
            return f"pkg:pypi/{name}@{version}"
        case "oci":
            return f"pkg:oci/{name}@sha256%3A{artefact.sha256}"
        case _:
            return f"pkg:generic/{name}@{version}?checksum=sha256:{artefact.sha256}"
