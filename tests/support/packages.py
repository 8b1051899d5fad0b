"""Small Debian packages, a signed archive of them, and an HTTP server of files that may misbehave."""

import hashlib
import io
import lzma
import subprocess
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

NOW = datetime(2026, 11, 27, 4, tzinfo=UTC)
COPYRIGHT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: MIT\n"


def fake_deb(name: str, version: str = "1", *, copyright_text: str = COPYRIGHT, **fields: str) -> bytes:
    """Return a package with one file; `fields` go into its control stanza."""
    stanza = {"Package": name, "Version": version, "Architecture": "all", "Maintainer": "x <x@x.invalid>"} | {
        key.replace("_", "-"): value for key, value in fields.items()
    }
    control = "".join(f"{key}: {value}\n" for key, value in stanza.items()) + "Description: a test\n"
    data = {f"./usr/share/doc/{name}/copyright": copyright_text.encode()}
    members = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", _tar({"./control": control.encode()})),
        ("data.tar.xz", _tar(data)),
    ]
    return b"!<arch>\n" + b"".join(_member(*member) for member in members)


def _member(name: str, content: bytes) -> bytes:
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return head + content + b"\n" * (len(content) % 2)


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


class ArchiveKey:
    """An OpenPGP key that signs indexes, in a home of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._gpg = ["gpg", "--homedir", str(home), "--batch", "--yes", "--quiet", "--no-tty", "--passphrase", ""]
        self._home = home
        self._run("--quick-gen-key", "Test archive <test@test.invalid>", "ed25519", "sign", "never")
        self.keyring = home / "archive.gpg"
        self.keyring.write_bytes(self._run("--export"))
        listed = self._run("--list-keys", "--with-colons").decode()
        self.fingerprint = next(line for line in listed.splitlines() if line.startswith("fpr:")).split(":")[9]

    def clearsign(self, text: str) -> bytes:
        return self._run("--clearsign", stdin=text.encode())

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False, capture_output=True)

    def _run(self, *words: str, stdin: bytes = b"") -> bytes:
        return subprocess.run([*self._gpg, *words], input=stdin, capture_output=True, check=True).stdout


def archive_files(
    debs: list[bytes], stanzas: list[str], key: ArchiveKey, *, valid_until: datetime | None = NOW + timedelta(days=7)
) -> dict[str, bytes]:
    """Return the files of an archive `debian` with one suite, by path; `stanzas` are those of the packages."""
    files: dict[str, bytes] = {}
    listed = []
    for deb, stanza in zip(debs, stanzas, strict=True):
        name, version = (_field(stanza, field) for field in ("Package", "Version"))
        path = f"pool/{name}_{version}_all.deb"
        files[f"/debian/{path}"] = deb
        listed.append(f"{stanza}Filename: {path}\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n")
    plain = "\n".join(listed).encode()
    packed = lzma.compress(plain)
    digest = hashlib.sha256(packed).hexdigest()
    files[f"/debian/dists/trixie/main/binary-amd64/by-hash/SHA256/{digest}"] = packed
    lines = [f" {hashlib.sha256(plain).hexdigest()} {len(plain)} main/binary-amd64/Packages"]
    lines += [f" {digest} {len(packed)} main/binary-amd64/Packages.xz"]
    head = f"Codename: trixie\nSuite: stable\nDate: {format_datetime(NOW - timedelta(days=1))}\n"
    until = f"Valid-Until: {format_datetime(valid_until)}\n" if valid_until else ""
    files["/debian/dists/trixie/InRelease"] = key.clearsign(head + until + "SHA256:\n" + "\n".join(lines) + "\n")
    return files


def _field(stanza: str, name: str) -> str:
    return next(line for line in stanza.splitlines() if line.startswith(f"{name}: ")).partition(": ")[2]


@dataclass
class FileServer:
    """Plain files over HTTP on loopback. `spoil` may answer in the server's place, and says whether it did."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    spoil: Callable[["FileHandler", bytes, int], bool] = lambda *_: False

    def __enter__(self) -> Self:
        handler = type("Handler", (FileHandler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class FileHandler(BaseHTTPRequestHandler):
    owner: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.owner.asked.append((self.path, wanted))
        content = self.owner.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.owner.ranges else 0
        if self.owner.spoil(self, content, start):
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None:
        """Say nothing."""
