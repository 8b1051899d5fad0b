"""Bring one file of a known digest over HTTP: resumed, repeated, and believed only when the digest is right."""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from controlplane.kit.errors import Refused, Unavailable

ATTEMPTS = 4  # without a byte of progress between them
PAUSE_S = 0.2
TIMEOUT_S = 30
BLOCK_BYTES = 1 << 18
AGENT = "redoubt-bundle"

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Download:
    """What to bring; `name` is how a person knows it."""

    name: str
    url: str
    sha256: str
    size_bytes: int


class Gone(Unavailable):
    """The mirror answers, and has no such file."""


class Altered(Refused):
    """The mirror gives other bytes than those that were pinned."""


def get_bytes(url: str) -> bytes:
    """Return a small file; raises Gone or Unavailable."""
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            with _open(url, 0) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            _give_up_if_final(url.rpartition("/")[2], url, error)
            reason = str(error)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error)
        time.sleep(PAUSE_S * 2**attempt)
    raise _unreachable(url, reason)


def download(wanted: Download, partial: Path, advance: Advance) -> None:
    """Make `partial` the wanted file, going on from what it holds; raises Gone, Altered or Unavailable."""
    resumed = partial.exists()
    _complete(wanted, partial, advance)
    if _sha256(partial) == wanted.sha256:
        return
    _discard(partial, advance)
    if resumed:  # what an earlier run left may be what was wrong
        download(wanted, partial, advance)
        return
    raise Altered(
        f"{wanted.name}: the mirror gives {wanted.size_bytes} other bytes than the lock pins",
        remedy="lock anew (redoubt bundle lock) if the mirror is right, or name another mirror: --mirror URL",
        code="artefact_altered",
    )


def _complete(wanted: Download, partial: Path, advance: Advance) -> None:
    if _size(partial) > wanted.size_bytes:
        partial.unlink()
    advance(_size(partial))
    stalled = 0
    while (have := _size(partial)) != wanted.size_bytes:
        try:
            _receive(wanted, partial, have, advance)
            reason = f"the connection ended after {_size(partial)} of {wanted.size_bytes} bytes"
        except urllib.error.HTTPError as error:
            _give_up_if_final(wanted.name, wanted.url, error)
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                _discard(partial, advance)
            reason = str(error)
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        stalled = 0 if _size(partial) > have else stalled + 1
        if stalled == ATTEMPTS:
            raise _unreachable(wanted.name, reason)
        if stalled:
            time.sleep(PAUSE_S * 2**stalled)


def _receive(wanted: Download, partial: Path, have: int, advance: Advance) -> None:
    with _open(wanted.url, have) as response:
        goes_on = response.status == http.HTTPStatus.PARTIAL_CONTENT and _start(response) == have
        if not goes_on:
            _discard(partial, advance)
        with partial.open("ab") as target:
            while block := response.read1(BLOCK_BYTES):
                if target.tell() + len(block) > wanted.size_bytes:
                    break
                target.write(block)
                advance(len(block))
            else:
                return
    _discard(partial, advance)
    raise Altered(
        f"{wanted.name}: the mirror gives more than the {wanted.size_bytes} bytes that the lock pins",
        remedy="lock anew (redoubt bundle lock) if the mirror is right, or name another mirror: --mirror URL",
        code="artefact_altered",
    )


def _open(url: str, have: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": AGENT, **({"Range": f"bytes={have}-"} if have else {})}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - choose_mirror lets HTTP through alone
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310 - the same
    return response


def _start(response: http.client.HTTPResponse) -> int:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _give_up_if_final(name: str, url: str, error: urllib.error.HTTPError) -> None:
    with error:
        if error.code in {http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE}:
            raise Gone(
                f"{name}: the mirror no longer has {url.rpartition('/')[2]}",
                remedy="lock anew: redoubt bundle lock; or name a mirror that has it: --mirror URL",
                code="artefact_gone",
            ) from None
        if error.code in {http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN}:
            raise Unavailable(
                f"{name}: the mirror refuses: {error}",
                remedy="name another mirror: --mirror URL",
                code="mirror_refuses",
            ) from None


def _unreachable(name: str, reason: str) -> Unavailable:
    return Unavailable(
        f"{name}: {reason}",
        remedy="repeat the command, which goes on where it stopped; or name another mirror: --mirror URL",
        code="mirror_unreachable",
    )


def _discard(partial: Path, advance: Advance) -> None:
    advance(-_size(partial))
    partial.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
