"""Writes an audit log as a folder that `redoubt-verify` checks anywhere."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

from controlplane.contracts.audit import Checkpoint, Entry, Proof
from controlplane.kit.canonical import canonical_json
from controlplane.kit.errors import Conflict
from controlplane.kit.note import parse_checkpoint, parse_note


def write_export(
    folder: Path,
    checkpoints: Sequence[Checkpoint],
    entries: Iterable[Entry],
    *,
    witness_keys: Iterable[str] = (),
    proofs: Iterable[Proof] = (),
) -> int:
    """Write the log up to its newest checkpoint, and a manifest that names every file; return the number of entries."""
    if not checkpoints:
        raise Conflict("the log has no checkpoint yet", remedy="ask again in ten seconds", code="no_checkpoint")
    newest = max(checkpoints, key=lambda row: row.size)
    (folder / "checkpoints").mkdir(parents=True)
    files = {"entries.jsonl": _write_entries(folder / "entries.jsonl", entries, newest.size)}
    texts = {f"checkpoints/{row.size}": row.note for row in checkpoints}
    texts["keys/log.txt"] = _lines(dict.fromkeys(row.signer for row in checkpoints))
    texts["keys/witnesses.txt"] = _lines(dict.fromkeys(witness_keys))
    texts |= {f"proofs/{proof.event_id}.tlog-proof": proof.proof for proof in proofs}
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.encode())
        files[name] = sha256(text.encode()).hexdigest()
    manifest = {
        "v": 1,
        "origin": parse_checkpoint(parse_note(newest.note).body).origin,
        "size": newest.size,
        "checkpoints": sorted(row.size for row in checkpoints),
        "files": files,
    }
    (folder / "manifest.json").write_bytes(canonical_json(manifest) + b"\n")
    return newest.size


def _write_entries(path: Path, entries: Iterable[Entry], size: int) -> str:
    """Write one line a leaf: its bytes, or where they were purged its hash. Return the file's digest."""
    digest, written = sha256(), 0
    with path.open("wb") as file:
        for entry in entries:
            if entry.index >= size:
                break
            line = (entry.body.encode() if entry.body is not None else _purged(entry.hash)) + b"\n"
            file.write(line)
            digest.update(line)
            written += 1
    if written != size:
        raise Conflict(f"the api gave {written} of {size} entries", remedy="export again", code="export_short")
    return digest.hexdigest()


def _purged(leaf: str) -> bytes:
    return canonical_json({"leaf": leaf, "purged": True})


def _lines(words: Iterable[str]) -> str:
    return "".join(f"{word}\n" for word in words)
