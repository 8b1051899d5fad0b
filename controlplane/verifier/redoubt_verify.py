#!/usr/bin/env python3
"""Verify an exported Redoubt audit log, or one proof, with Python's standard library and this file alone.

    redoubt_verify.py FOLDER [--key VKEY] [--seen CHECKPOINT] [--witnesses K] [--json]
    redoubt_verify.py PROOF.tlog-proof --event ENTRY.json --key VKEY

Exit codes: 0 all that was checked holds; 2 usage; else the class of the first failure, see FAILURES.
Formats: RFC 6962 and C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof, tlog-tiles. Ed25519: RFC 8032.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any, NamedTuple

FAILURES = {
    "files": 10,  # a file is missing, unknown, unreadable or not what the manifest says
    "checkpoint": 11,  # an expected checkpoint is missing, or the newest does not cover the log
    "signature": 12,  # unsigned, or not by a key that is trusted
    "origin": 13,  # another log's checkpoint
    "gap": 14,  # entries are missing, or a purged body that no purge accounts for
    "tree": 15,  # an entry was changed, moved, inserted or dropped
    "split": 16,  # two roots for one size
    "old": 17,  # a witness or an auditor has seen a longer log
    "fields": 18,  # an entry of an unknown version, with unknown or missing fields, or not in canonical form
    "clock": 19,  # time runs backwards
    "duplicate": 20,  # one event twice
    "proof": 21,  # a proof does not hold
    "witnesses": 22,  # fewer witnesses than asked for
}
FIELDS = {
    "v", "event_id", "ts", "node", "boot_id", "actor", "source", "action", "object", "decision", "request", "result",
    "approvals", "personal", "details",
}  # fmt: skip
TEXT_FIELDS = ("action", "boot_id", "event_id", "node", "object", "personal", "request", "result", "source", "ts")
ACTOR_FIELDS = {"id", "role", "roles", "project", "session", "method"}
# An entry without an escape and with a flat `details`: nearly all are, and one pattern is quicker than a parser.
_TEXT = r'"([^"\\\x00-\x1f]*)"'
_ANY = r'"[^"\\\x00-\x1f]*"'
_LIST = rf"\[(?:{_ANY}(?:,{_ANY})*)?\]"
_PAIR = rf'"[a-z0-9_]+":(?:{_ANY}|0|-?[1-9][0-9]*|true|false|null)'
PLAIN = re.compile(
    rf'\{{"action":{_TEXT},"actor":\{{"id":{_ANY},"method":{_ANY},"project":{_ANY},"role":{_ANY},"roles":{_LIST},'
    rf'"session":{_ANY}\}},"approvals":{_LIST},"boot_id":{_TEXT},"decision":\{{"policy":{_ANY},"result":{_ANY}\}},'
    rf'"details":\{{((?:{_PAIR}(?:,{_PAIR})*)?)\}},"event_id":{_TEXT},"node":{_TEXT},"object":{_ANY},'
    rf'"personal":{_ANY},"request":{_ANY},"result":{_ANY},"source":{_ANY},'
    rf'"ts":"(\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z)","v":1\}}',
    re.ASCII,
)
NAMES = re.compile(r'"([a-z0-9_]+)":')
PURGED = re.compile(rb'\{"leaf":"([0-9a-f]{64})","purged":true\}')
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
SLACK = timedelta(seconds=60)  # the longest transaction: it is sealed when it commits, and says when it began
EMPTY_ROOT = sha256(b"").digest()
UNSHOWN = {"ok", "not_checked", "keys", "witnesses", "exported_witness_keys"}

Point = tuple[int, int, int, int]
State = tuple[str, int, bytes]


class Key(NamedTuple):
    """A name, the key's id, what it signs (1: the log, 4: a witness), and its bytes."""

    name: str
    id: bytes
    kind: int
    public: bytes


class Entry(NamedTuple):
    """What is looked at in one entry."""

    action: str
    boot_id: str
    event_id: str
    node: str
    ts: str


class Failed(Exception):
    """Something does not hold; `kind` is one of FAILURES."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


# --- Ed25519: a table of multiples for each point, so that a thousand checkpoints of one key are quick ---

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)


def add(a: Point, b: Point) -> Point:
    x = (a[1] - a[0]) * (b[1] - b[0]) % P
    y = (a[1] + a[0]) * (b[1] + b[0]) % P
    t = 2 * a[3] * b[3] * D % P
    z = 2 * a[2] * b[2] % P
    e, f, g, h = y - x, z - t, z + t, y + x
    return e * f % P, g * h % P, f * g % P, e * h % P


@lru_cache(maxsize=256)
def table(encoded: bytes, negative: bool) -> list[list[Point]] | None:  # noqa: FBT001 - a private switch
    """Return 64 rows of 15 multiples of a point; None when the bytes are no point."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        return None
    if (x & 1 != sign) != negative:
        x = P - x
    point: Point = (x, y, 1, x * y % P)
    rows: list[list[Point]] = []
    for _ in range(64):
        row = [NEUTRAL]
        for _ in range(15):
            row.append(add(row[-1], point))
        rows.append(row)
        point = add(row[15], point)
    return rows


BASE = (4 * pow(5, P - 2, P) % P).to_bytes(32, "little")


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """RFC 8032, 5.1.7, cofactorless: [S]B - [k]A must be R, byte for byte."""
    if len(signature) != 64 or len(public) != 32:
        return False
    s = int.from_bytes(signature[32:], "little")
    key, base = table(public, True), table(BASE, False)  # noqa: FBT003 - negative, and not
    if s >= ORDER or key is None or base is None:
        return False
    k = int.from_bytes(sha512(signature[:32] + public + message).digest(), "little") % ORDER
    total = NEUTRAL
    for row, other in zip(base, key):  # noqa: B905 - Python 3.9 has no strict=, and both have 64 rows
        total = add(add(total, row[s & 15]), other[k & 15])
        s, k = s >> 4, k >> 4
    inverse = pow(total[2], P - 2, P)
    x, y = total[0] * inverse % P, total[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


# --- Notes, keys, proofs ---


def decode(text: str, kind: str, what: str) -> bytes:
    try:
        value = b64decode(text, validate=True)
    except (BadBase64, ValueError):
        value = b""
    if not value or b64encode(value).decode() != text:
        raise Failed(kind, f"{what}: no base64 in its one form")
    return value


def read_key(line: str) -> Key:
    """Read `<name>+<id>+<base64>`."""
    name, _, rest = line.partition("+")
    shown, _, encoded = rest.partition("+")
    value = decode(encoded, "signature", "a key")
    key_id = sha256(name.encode() + b"\n" + value).digest()[:4]
    if len(value) != 33 or value[0] not in (1, 4) or key_id.hex() != shown or not name:
        raise Failed("signature", f"{line[:60]!r} is no Ed25519 verifier key")
    return Key(name, key_id, value[0], value[1:])


def read_note(text: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Return the body and the signatures (name, key id, bytes) of a signed note."""
    body, divider, tail = text.rpartition("\n\n")
    lines = tail[:-1].split("\n")
    if not divider or not tail.endswith("\n"):
        raise Failed("signature", "a checkpoint without a signature")
    signatures = []
    for line in lines:
        match = SIGNATURE.fullmatch(line)
        if match is None:
            raise Failed("signature", "a signature line in an unknown form")
        value = decode(match[2], "signature", "a signature")
        signatures.append((match[1], value[:4], value[4:]))
    return body + "\n", signatures


def read_state(body: str) -> State:
    """Return origin, size and root of a checkpoint's body."""
    lines = body.split("\n")
    if len(lines) != 4 or lines[3] or NUMBER.fullmatch(lines[1]) is None:
        raise Failed("checkpoint", "a checkpoint in an unknown form")
    return lines[0], int(lines[1]), decode(lines[2], "checkpoint", "a root")


class Keys:
    """Which keys of the log and of its witnesses are known; `given` are those that do not come from the export."""

    def __init__(self, given: Sequence[str], exported: Sequence[str] = ()) -> None:
        self.given = set(map(read_key, given))
        self.known = {(key.name, key.id): key for key in [*map(read_key, exported), *self.given]}
        self.used: set[Key] = set()

    def check(self, text: str, origin: str) -> tuple[State, dict[Key, int]]:
        """Check every signature of a checkpoint; return its state and {a witness's key: POSIX time}."""
        body, signatures = read_note(text)
        state = read_state(body)
        if state[0] != origin:
            raise Failed("origin", f"a checkpoint of {state[0]!r} in a log of {origin!r}")
        by_log, seen = False, {}  # type: bool, dict[Key, int]
        for name, key_id, given in signatures:
            key = self.known.get((name, key_id))
            if key is None:
                raise Failed("signature", f"{name} signed {state[1]} entries with a key that is not trusted")
            message, value = body.encode(), given
            if key.kind == 4:
                seen[key] = int.from_bytes(given[:8], "big")
                message, value = f"cosignature/v1\ntime {seen[key]}\n{body}".encode(), given[8:]
            elif name == origin:
                by_log = True
            if not is_signed(key.public, message, value):
                raise Failed("signature", f"the signature of {name} over {state[1]} entries does not hold")
            self.used.add(key)
        if not by_log:
            raise Failed("signature", f"the log itself did not sign its state of {state[1]} entries")
        return state, seen


def check_proof(text: str, entry_hash: bytes, keys: Keys, origin: str, index: int | None = None) -> tuple[int, int]:
    """Check a C2SP tlog-proof of one entry; return the index and the size it is proved for."""
    head, divider, note = text.partition("\n\n")
    lines = head.split("\n")
    if not divider or lines[0] != "c2sp.org/tlog-proof@v1" or len(lines) < 2 or not lines[1].startswith("index "):
        raise Failed("proof", "a proof in an unknown form")
    if NUMBER.fullmatch(lines[1][6:]) is None or (index is not None and index != int(lines[1][6:])):
        raise Failed("proof", "a proof of another entry")
    (_, size, root), _ = keys.check(note, origin)
    position, last, found = int(lines[1][6:]), size - 1, entry_hash
    if position >= size:
        raise Failed("proof", "an index beyond the tree")
    for line in lines[2:]:
        other = decode(line, "proof", "a hash")
        if last <= 0:
            raise Failed("proof", "a proof that is too long")
        if position & 1 or position == last:
            found = sha256(b"\x01" + other + found).digest()
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = sha256(b"\x01" + found + other).digest()
        position, last = position >> 1, last >> 1
    if last != 0 or found != root:
        raise Failed("proof", f"the proof of entry {lines[1][6:]} does not lead to the root")
    return int(lines[1][6:]), size


# --- Entries ---


def check_entry(number: int, line: bytes) -> Entry:
    """Return what is looked at, after checking that an entry has its version's fields in the one form."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise Failed("fields", f"entry {number} is no UTF-8") from None
    plain = PLAIN.fullmatch(text)
    if plain is None:
        return check_unusual_entry(number, text)
    names = NAMES.findall(plain[3])
    if names != sorted(set(names)):
        raise Failed("fields", f"entry {number} is not in canonical form")
    return Entry(plain[1], plain[2], plain[4], plain[5], plain[6])


def check_unusual_entry(number: int, text: str) -> Entry:
    """Do the same with a parser: for escapes and for details within details."""
    try:
        entry = json.loads(text)
        same = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == text
    except (ValueError, RecursionError):
        raise Failed("fields", f"entry {number} is no JSON") from None
    if not same or type(entry) is not dict:
        raise Failed("fields", f"entry {number} is not in canonical form")
    if type(entry.get("v")) is not int or entry["v"] != 1:
        raise Failed("fields", f"entry {number} is of version {entry.get('v')!r}, which this verifier does not know")
    actor, decision = entry.get("actor"), entry.get("decision")
    if entry.keys() != FIELDS or type(actor) is not dict or actor.keys() != ACTOR_FIELDS:
        raise Failed("fields", f"entry {number} has other fields than its version")
    if type(decision) is not dict or decision.keys() != {"policy", "result"} or type(entry["details"]) is not dict:
        raise Failed("fields", f"entry {number} has other fields than its version")
    if any(type(entry[name]) is not str for name in TEXT_FIELDS) or TIME.fullmatch(entry["ts"]) is None:
        raise Failed("fields", f"entry {number} has no time or no id")
    return Entry(*(entry[name] for name in Entry._fields))


def to_time(text: str) -> datetime:
    """Read a time of the log."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: DTZ007 - all are UTC, and are only compared
    except ValueError:
        raise Failed("fields", f"{text} is no time") from None


class Clocks:
    """The newest time of each boot of each node."""

    def __init__(self) -> None:
        self.newest: dict[tuple[str, str], str] = {}

    def check(self, number: int, entry: Entry) -> None:
        place, at = (entry.node, entry.boot_id), entry.ts
        before = self.newest.get(place, "")
        if at >= before or entry.action == "clock.anomaly":
            self.newest[place] = at
        elif to_time(before) - to_time(at) > SLACK:
            raise Failed("clock", f"entry {number} is of {at}, after one of {before}, and no clock.anomaly tells of it")


class Tree:
    """The tree so far: the roots of its perfect subtrees, largest first."""

    def __init__(self) -> None:
        self.size = 0
        self.roots: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        size = self.size
        self.size += 1
        while size & 1:
            leaf = sha256(b"\x01" + self.roots.pop() + leaf).digest()
            size >>= 1
        self.roots.append(leaf)

    def root(self) -> bytes:
        if not self.roots:
            return EMPTY_ROOT
        found = self.roots[-1]
        for left in self.roots[-2::-1]:
            found = sha256(b"\x01" + left + found).digest()
        return found


# --- A folder ---


class Folder:
    """An export. Its manifest names every file by digest; what it does not name must not be there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        raw = self.read("manifest.json")
        try:
            manifest = json.loads(raw)
            self.origin, self.size = manifest["origin"], manifest["size"]
            self.files, self.checkpoints = manifest["files"], manifest["checkpoints"]
            same = (json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n").encode() == raw
            same = same and manifest.keys() == {"v", "origin", "size", "files", "checkpoints"} and manifest["v"] == 1
        except (ValueError, KeyError, TypeError):
            raise Failed("files", "manifest.json is no manifest") from None
        if not same or type(self.size) is not int or type(self.files) is not dict:
            raise Failed("files", "manifest.json is not in canonical form")
        there = {str(p.relative_to(path)) for p in path.rglob("*") if not p.is_dir()} - {"manifest.json"}
        for name in sorted(there ^ self.files.keys()):
            raise Failed("files", f"{name} is {'not in the manifest' if name in there else 'missing'}")
        for name, digest in self.files.items():
            if name != "entries.jsonl" and sha256(self.read(name)).hexdigest() != digest:
                raise Failed("files", f"{name} is not what the manifest says")

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise Failed("files", f"{name}: {error.strerror}") from None

    def text(self, name: str) -> str:
        try:
            return self.read(name).decode()
        except UnicodeDecodeError:
            raise Failed("files", f"{name} is no UTF-8") from None

    def lines(self, name: str) -> list[str]:
        return self.text(name).splitlines() if name in self.files else []

    def notes(self) -> dict[int, str]:
        """Return the checkpoints by size; each that the manifest expects must be there."""
        found = {name[12:]: self.text(name) for name in self.files if name.startswith("checkpoints/")}
        expected = [str(size) for size in self.checkpoints]
        if sorted(found) != sorted(expected) or not expected or not all(map(NUMBER.fullmatch, expected)):
            raise Failed("checkpoint", f"checkpoints {sorted(set(expected) ^ found.keys())[:3]} are missing or unknown")
        return {int(size): found[size] for size in expected}

    def entries(self) -> Iterator[bytes]:
        """Yield the lines of entries.jsonl."""
        digest = sha256()
        with (self.path / "entries.jsonl").open("rb") as file:
            for line in file:
                digest.update(line)
                if line[-1:] != b"\n":
                    raise Failed("files", "entries.jsonl ends within a line")
                yield line[:-1]
        if digest.hexdigest() != self.files["entries.jsonl"]:
            raise Failed("files", "entries.jsonl is not what the manifest says")


def check_folder(path: Path, trusted: Sequence[str], seen: Sequence[str], least: int) -> dict[str, Any]:
    """Check a whole export; return what was found. Raises Failed at the first thing that does not hold."""
    folder = Folder(path)
    keys = keys_for(folder, trusted)
    states: dict[int, bytes] = {}
    cosigned: dict[int, dict[Key, int]] = {}
    for size, note in folder.notes().items():
        (_, signed, root), cosigned[size] = keys.check(note, folder.origin)
        if signed != size:
            raise Failed("checkpoint", f"the checkpoint of {size} entries is one of {signed}")
        states[size] = root
    newest = max(states)
    check_seen(folder, keys, states, seen)
    found = check_entries(folder, keys, states, newest)
    check_witness_times(cosigned)
    check_witnesses(cosigned[newest], keys, least)
    witnesses = sorted({key.name for key in cosigned[newest]})
    exported = [key for key in keys.used - keys.given if key.kind == 4]
    return {
        **found,
        "witnesses": witnesses,
        "keys": shown_keys(keys.used),
        "exported_witness_keys": shown_keys(exported),
    }


def keys_for(folder: Folder, trusted: Sequence[str]) -> Keys:
    """Return the keys of an export: with trusted ones it says nothing of the log's own key, only of witnesses."""
    exported = [*folder.lines("keys/log.txt"), *folder.lines("keys/witnesses.txt")]
    return Keys(trusted, [line for line in exported if read_key(line).kind == 4 or not trusted])


def check_witnesses(newest: dict[Key, int], keys: Keys, least: int) -> None:
    """Count the witnesses whose key was given: whoever made an export can put any key into it."""
    count = len({key.name for key in newest if key in keys.given})
    if count < least:
        text = f"{count} witnesses whose key was given by --key signed the newest checkpoint, {least} were asked for"
        raise Failed("witnesses", text)


def shown_keys(keys: Iterable[Key]) -> list[str]:
    return sorted(f"{key.name}+{key.id.hex()}" for key in keys)


def check_seen(folder: Folder, keys: Keys, states: dict[int, bytes], seen: Sequence[str]) -> None:
    """Hold the log against checkpoints that were kept elsewhere."""
    for note in seen:
        (_, size, root), _ = keys.check(note, folder.origin)
        if size > folder.size:
            raise Failed("old", f"this log has {folder.size} entries, and one of {size} was seen before")
        if states.setdefault(size, root) != root:
            raise Failed("split", f"two roots for {size} entries: this log is not the one that was seen before")


def check_entries(folder: Folder, keys: Keys, states: dict[int, bytes], newest: int) -> dict[str, Any]:
    """Read the log once: every entry, the tree over them at every signed size, and the proofs.

    `newest` is the size of the export's own newest checkpoint; `states` has those that were seen elsewhere too.
    """
    tree, clocks, ids, allowed = Tree(), Clocks(), set(), 0  # type: Tree, Clocks, set[str], int
    proofs = {name[7:-11]: name for name in folder.files if name.startswith("proofs/")}
    proved: dict[str, tuple[int, bytes]] = {}
    purged: list[int] = []
    for line in folder.entries():
        number, gone = tree.size, PURGED.fullmatch(line)
        if gone:
            leaf = bytes.fromhex(gone[1].decode())
            purged.append(number)
        else:
            leaf, entry = sha256(b"\x00" + line).digest(), check_entry(number, line)
            if entry.event_id in ids:
                raise Failed("duplicate", f"event {entry.event_id} is there twice, the second time as entry {number}")
            ids.add(entry.event_id)
            clocks.check(number, entry)
            if entry.event_id in proofs:
                proved[entry.event_id] = number, leaf
            if entry.action == "audit.purged":
                allowed = max(allowed, purged_before(line))
        tree.add(leaf)
        if tree.size in states and tree.root() != states[tree.size]:
            raise Failed("tree", f"the first {tree.size} entries are not those that were signed")
    check_ends(folder, newest, tree.size)
    if purged and purged[-1] >= allowed:
        raise Failed("gap", f"the body of entry {purged[-1]} is gone, and no purge in the log accounts for it")
    check_proofs(folder, keys, proofs, proved)
    return {"entries": tree.size, "checkpoints": len(folder.checkpoints), "purged": len(purged), "proofs": len(proofs)}


def purged_before(line: bytes) -> int:
    """Return the first leaf that a purge left alone."""
    before = json.loads(line)["details"].get("before_leaf", 0)
    return before if type(before) is int else 0


def check_ends(folder: Folder, newest: int, size: int) -> None:
    """The manifest, the entries and the newest checkpoint must speak of the same number of entries."""
    if size != folder.size:
        raise Failed("gap", f"{size} entries, and the manifest speaks of {folder.size}")
    if newest > size:
        raise Failed("gap", f"the newest checkpoint is over {newest} entries, there are {size}")
    if newest < size:
        raise Failed("checkpoint", f"no checkpoint covers the entries from {newest} to {size}")


def check_proofs(folder: Folder, keys: Keys, proofs: dict[str, str], proved: dict[str, tuple[int, bytes]]) -> None:
    """Check every proof of the export against its entry, by the keys that its checkpoints are checked by."""
    for event_id, name in proofs.items():
        if event_id not in proved:
            raise Failed("proof", f"{name} proves an event that is not in the log")
        number, leaf = proved[event_id]
        check_proof(folder.text(name), leaf, keys, folder.origin, number)


def check_witness_times(cosigned: dict[int, dict[Key, int]]) -> None:
    """A witness signs a longer log later."""
    newest: dict[str, int] = {}
    for size in sorted(cosigned):
        for witness, at_s in {key.name: at_s for key, at_s in cosigned[size].items()}.items():
            if at_s < newest.get(witness, 0):
                raise Failed("clock", f"{witness} signed {size} entries before it signed fewer")
            newest[witness] = at_s


def check_one_proof(path: Path, event: Path | None, trusted: Sequence[str]) -> dict[str, Any]:
    """Check a proof file against one entry."""
    if event is None or not trusted:
        raise Failed("proof", "a proof needs --event and --key")
    line, text = event.read_bytes().rstrip(b"\n"), path.read_text()
    check_entry(0, line)
    keys = Keys(trusted)
    origin = next((key.name for key in keys.known.values() if key.kind == 1), "")
    index, size = check_proof(text, sha256(b"\x00" + line).digest(), keys, origin)
    return {"entries": 1, "index": index, "size": size}


def not_checked(found: dict[str, Any], options: argparse.Namespace) -> Iterator[str]:
    """Say what a good answer does not mean."""
    yield "that the log is complete before its first entry was written: what was never recorded leaves no trace"
    yield "the side records of persons: only their commitments are here"
    if not options.key:
        keys = ", ".join(found.get("keys", []))
        yield f"that the keys are the site's own: compare {keys} with what the site published"
    elif found.get("exported_witness_keys"):
        keys = ", ".join(found["exported_witness_keys"])
        yield f"that {keys} are the keys of witnesses: they came with the export; give those that you know by --key"
    if not options.seen:
        yield "that nothing was rewritten or cut off since you last looked: give --seen a checkpoint that you kept"
    if not options.witnesses and "witnesses" in found:
        yield f"how many witnesses there should be: {len(found['witnesses'])} signed the newest checkpoint"
    if found.get("purged"):
        yield f"the bodies of {found['purged']} purged entries: only their hashes are left"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--key", action="append", default=[], help="a trusted verifier key, or a file of them")
    parser.add_argument("--seen", action="append", default=[], type=Path, help="a checkpoint that was kept earlier")
    parser.add_argument(
        "--witnesses", type=int, default=0, help="how many witnesses of --key must have signed the newest"
    )
    parser.add_argument("--event", type=Path, help="the entry that a proof is about")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    try:
        keys = [w for key in options.key for w in (Path(key).read_text().split() if "+" not in key else [key])]
        if options.path.is_dir():
            seen = [path.read_text() for path in options.seen]
            found = check_folder(options.path, keys, seen, options.witnesses)
        else:
            found = check_one_proof(options.path, options.event, keys)
        answer = {"ok": True, **found, "not_checked": list(not_checked(found, options))}
        code = 0
    except Failed as failed:
        answer, code = {"ok": False, "failure": failed.kind, "detail": str(failed)}, FAILURES[failed.kind]
    except (OSError, UnicodeDecodeError) as error:
        answer, code = {"ok": False, "failure": "files", "detail": str(error)}, FAILURES["files"]
    sys.stdout.write((json.dumps(answer, indent=2) if options.json else shown(answer)) + "\n")
    return code


def shown(answer: dict[str, Any]) -> str:
    """Return an answer as text."""
    if not answer["ok"]:
        return f"FAILED ({answer['failure']}): {answer['detail']}"
    facts = ", ".join(f"{k} {v}" for k, v in answer.items() if k not in UNSHOWN)
    return "\n".join([f"OK: {facts}", *(f"  not checked: {line}" for line in answer["not_checked"])])


def run() -> None:
    """Be the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
