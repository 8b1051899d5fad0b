"""What the depot's node runs to take a bundle in, and to check it before serving. Standard library and kit alone.

The role depot puts this file and those it imports on the node, where nothing of the product is installed yet.
"""

import argparse
import base64
import contextlib
import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from controlplane.bundle.archive import folder_head
from controlplane.bundle.check import folder_faults, require_whole
from controlplane.bundle.depot_folder import DepotFolder
from controlplane.bundle.intake import Asked, take_in
from controlplane.bundle.terms import Platform, Terms, judge
from controlplane.bundle.trust import read_root
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import RedoubtError, Refused

ED25519_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: what stands before the key itself
KEEP_SIZE, PUNCH_HOLE = 0x01, 0x02  # linux/falloc.h
BLOCK = 4096


def main() -> int:
    """Do one verb; exit 0 done, 1 failed, 2 usage, 3 refused. The answer is JSON, the reason goes to standard error."""
    asked = _parser().parse_args()
    try:
        answer = _take_in(asked) if asked.verb == "take-in" else _check(asked)
    except RedoubtError as refusal:
        sys.stderr.write(f"depot: {refusal.detail}\n")
        sys.stderr.writelines(f"depot:   {reason}\n" for reason in refusal.reasons if reason != refusal.detail)
        sys.stderr.write(f"depot: next: {refusal.remedy}\n")
        return refusal.exit_code
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="redoubt-depot", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    take = verbs.add_parser("take-in", help="take a bundle in and make it the current one; its tar is used up")
    for name in ("source", "root"):
        take.add_argument(f"--{name}", type=Path, required=True)
    for name in ("digest", "who", "accept"):
        take.add_argument(f"--{name}", default="")
    check = verbs.add_parser("check", help="check signatures, floor and every byte of the current bundle")
    for verb in (take, check):
        verb.add_argument("--depot", type=Path, required=True)
    return parser


def _take_in(asked: argparse.Namespace) -> dict[str, object]:
    taken = take_in(
        Asked(
            source=asked.source,
            depot=asked.depot,
            root=read_root(asked.root.read_bytes(), str(asked.root)),
            now=SystemClock().now(),
            who=asked.who,
            platform=_platform(),
            accept=asked.accept,
            digest=asked.digest,
            punch=punch,
        ),
        openssl_check,
    )
    return dict(vars(taken))


def _check(asked: argparse.Namespace) -> dict[str, object]:
    """Raises Refused unless what is served is what was signed, by whom it should be, and not older than the floor."""
    depot = DepotFolder(asked.depot)
    roots = depot.memory.roots()
    if depot.current is None or not roots:
        raise Refused("the depot has no bundle", remedy="carry one in: redoubt site apply", code="depot_empty")
    head = folder_head(depot.current)
    recorded = [
        e["reason"] for e in depot.memory.journal.entries() if e["digest"] == depot.current.name and e["reason"]
    ]
    accept = recorded[-1] if recorded else ""
    terms = Terms(roots[-1], depot.memory.journal.floor(), SystemClock().now(), _platform(), accept)
    judged = judge(head, terms, openssl_check)
    if judged.contents.digest != depot.current.name:
        raise Refused("the link `current` names another bundle", remedy="redoubt site apply", code="bundle_altered")
    require_whole(folder_faults(depot.current, judged.contents, head), str(depot.current), "redoubt site apply")
    return {"digest": judged.contents.digest, "serial": judged.contents.serial, "files": len(judged.contents.files)}


def _platform() -> Platform:
    lines = Path("/etc/os-release").read_text().splitlines()
    suite = next((line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")), "")
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
    return Platform(suite, done.stdout.strip())


def openssl_check(public: bytes, message: bytes, signature: bytes) -> bool:
    """Check an Ed25519 signature with the `openssl` that every node has."""
    key = base64.encodebytes(ED25519_PREFIX + public).decode()
    with tempfile.TemporaryDirectory() as folder:
        files = {"key": f"-----BEGIN PUBLIC KEY-----\n{key}-----END PUBLIC KEY-----\n".encode()}
        files |= {"message": message, "signature": signature}
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        words = ["-verify", "-pubin", "-inkey", "key", "-rawin", "-in", "message", "-sigfile", "signature"]
        return (
            subprocess.run(["openssl", "pkeyutl", *words], cwd=folder, capture_output=True, check=False).returncode == 0
        )


def punch(handle: int, at: int, size_bytes: int) -> None:
    """Give the whole blocks of a range back; a file system that cannot keeps them."""
    first, last = -(-at // BLOCK) * BLOCK, (at + size_bytes) // BLOCK * BLOCK
    if last > first:
        with contextlib.suppress(OSError, AttributeError):
            libc = ctypes.CDLL(None, use_errno=True)
            libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
            libc.fallocate(handle, KEEP_SIZE | PUNCH_HOLE, first, last - first)


if __name__ == "__main__":
    sys.exit(main())
