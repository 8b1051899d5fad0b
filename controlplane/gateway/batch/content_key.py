"""The secret of a node that seals what it keeps, and the check value by which another secret is told from it.

The check value lies beside what is sealed, is made with the first look, and is what the role `gateway` compares too.
"""

import os
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

from controlplane.gateway.batch.refusals import Unkept
from controlplane.gateway.batch.sealed import Damaged, Sealing
from controlplane.kit.durable_files import replace_file, sync_folder
from controlplane.kit.errors import BadInput

CHECK_FILE: Final = "key.check"
_SHORTEST_SECRET = 32
_MOST_TRIED = 100


class NoContentKey(BadInput):
    """There is no secret, or it is damaged; the remedy is for operators and names paths."""


class WrongContentKey(BadInput):
    """Another secret than the one that sealed what is kept."""


def read_content_key(path: Path, root: Path) -> bytes:
    """Return 256 bits of the secret in the file, certain that they open what `root` keeps.

    It blocks. Raises NoContentKey, WrongContentKey, and OSError when the check value cannot be kept.
    """
    secret = _read_secret(path, root)
    key, check = sha256(secret).digest(), _check_value(secret)
    known = _known_check(root)
    if known is None and (not _keeps_something(root) or _opens_something(root, key)):
        _keep_check(root, check)
    elif known != check:
        detail = f"content_key {path} is not the one that sealed what is kept in {root}, or an older Redoubt kept it"
        raise WrongContentKey(detail, remedy=f"put that one back from a backup, or give up what is kept: {_anew(root)}")
    return key


def refused(fault: BadInput) -> Unkept:
    """Return what a client is told: no paths of this node."""
    wrong = isinstance(fault, WrongContentKey)
    detail = f"files and batches wait for this gateway's content key, which is {'another one' if wrong else 'missing'}"
    return Unkept(detail, remedy="operators: the gateway's log (content_key.locked) names the next step")


def _read_secret(path: Path, root: Path) -> bytes:
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise NoContentKey(f"content_key cannot be read: {error}", remedy=_remedy(path, root)) from None
    if len(secret) < _SHORTEST_SECRET:
        detail = f"content_key {path} holds under {_SHORTEST_SECRET} characters"
        raise NoContentKey(detail, remedy=_remedy(path, root))
    return secret


def _remedy(path: Path, root: Path) -> str:
    if _known_check(root) is not None or _keeps_something(root):
        return f"put it back from a backup, for it sealed what is kept; or give that up: {_anew(root)}, then make a key"
    return (
        "make it: redoubt site apply; or without Ansible: "
        f"head -c 32 /dev/urandom | base64 > {path}, mode 0400, owned by the gateway's user"
    )


def _anew(root: Path) -> str:
    return f"rm -r {root} and restart the gateway"


def _check_value(secret: bytes) -> bytes:
    """Return what tells a secret without giving it away; playbooks/library/random_key.py makes the same."""
    return sha256(b"check value of " + secret).hexdigest().encode()


def _known_check(root: Path) -> bytes | None:
    try:
        return (root / CHECK_FILE).read_bytes().strip()
    except FileNotFoundError:
        return None


def _keep_check(root: Path, check: bytes) -> None:
    """Write it under a name of this process first: other workers may do the same now."""
    fresh = root / f"{CHECK_FILE}.{os.getpid()}"
    replace_file(fresh, check)
    fresh.replace(root / CHECK_FILE)
    sync_folder(root)


def _keeps_something(root: Path) -> bool:
    return any(root.glob("*/*"))


def _opens_something(root: Path, key: bytes) -> bool:
    """Try the key where the check value alone was lost."""
    sealing = Sealing(key)
    return any(_opens(sealing, path) for path in islice(root.glob("*/*-*.head"), _MOST_TRIED))


def _opens(sealing: Sealing, head: Path) -> bool:
    try:
        return sealing.load(head, head.stem) is not None
    except Damaged:
        return False
