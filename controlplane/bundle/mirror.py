"""A mirror of the distribution: where it is, and its indexes, believed only after the distribution's signature."""

import lzma
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from controlplane.bundle.command import run
from controlplane.bundle.download import Download, Gone, get_bytes
from controlplane.bundle.lock import Index
from controlplane.bundle.recipe import Archive, Distribution
from controlplane.bundle.relations import Package, parse_index, parse_stanza
from controlplane.bundle.store import BlobStore
from controlplane.kit.errors import BadInput, Refused

ONE_LINE = re.compile(r"^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)")
APT = Path("/etc/apt")


@dataclass(frozen=True)
class Mirror:
    """`root` is the URL that the archives' folders stand below."""

    root: str

    def url(self, archive: str, path: str) -> str:
        return f"{self.root}/{archive}/{path}"


def choose_mirror(named: str | None, archive: str, apt: Path = APT) -> Mirror:
    """Return the mirror that was named, else the one of the machine's apt sources."""
    for url in [named] if named else _apt_urls(apt):
        if url.startswith(("http://", "https://")):
            root, _, last = url.rstrip("/").rpartition("/")
            if last == archive:
                return Mirror(root)
            if named:
                return Mirror(url.rstrip("/"))
    raise BadInput(
        f"no mirror of {archive} is known" if not named else f"{named} is no HTTP mirror",
        remedy=f"name one: --mirror http://HOST/{archive} (or REDOUBT_MIRROR); its apt sources name none"
        if not named
        else "give --mirror an http:// or https:// URL",
    )


def _apt_urls(apt: Path) -> Iterator[str]:
    for path in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))):
        for line in path.read_text().splitlines() if path.is_file() else ():
            if match := ONE_LINE.match(line):
                yield match[1]
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
        for stanza in text.split("\n\n"):
            yield from parse_stanza(stanza.strip()).get("URIs", "").split()


@dataclass(frozen=True)
class Indexes:
    """What the mirror offers; `absent` names suites that it does not have."""

    packages: tuple[Package, ...]
    indexes: tuple[Index, ...]
    absent: tuple[str, ...]


def read_indexes(
    distribution: Distribution, mirror: Mirror, store: BlobStore, *, keyring: Path, now: datetime
) -> Indexes:
    """Fetch and verify every index of the distribution; raises Refused when one cannot be believed."""
    packages: list[Package] = []
    indexes: list[Index] = []
    absent: list[str] = []
    for archive in distribution.archives:
        for suite in archive.suites:
            try:
                signed = get_bytes(mirror.url(archive.name, f"dists/{suite}/InRelease"))
            except Gone:
                if archive == distribution.archives[0] and suite == distribution.suite:
                    raise
                absent.append(suite)
                continue
            release = _believed(signed, suite, distribution, keyring, now)
            for component, text, index in _component_indexes(release, archive, suite, distribution, mirror, store):
                packages += parse_index(text, archive.name, distribution.architecture)
                indexes.append(index.model_copy(update={"component": component}))
    return Indexes(tuple(packages), tuple(indexes), tuple(absent))


def _believed(signed: bytes, suite: str, distribution: Distribution, keyring: Path, now: datetime) -> dict[str, str]:
    release = parse_stanza(verify_clearsigned(signed, keyring, distribution.signed_by, suite).decode())
    if suite not in {release.get("Suite"), release.get("Codename")}:
        raise Refused(
            f"the mirror's {suite} says that it is {release.get('Codename')}",
            remedy="name another mirror: --mirror URL",
            code="index_not_trusted",
        )
    until = release.get("Valid-Until")
    if until and parsedate_to_datetime(until) < now:
        raise Refused(
            f"the mirror's index of {suite} was valid until {until}",
            remedy="name a mirror that is kept up to date: --mirror URL; or set this machine's clock",
            code="index_expired",
        )
    return release


def verify_clearsigned(signed: bytes, keyring: Path, fingerprints: tuple[str, ...], suite: str) -> bytes:
    """Return the text of a clear-signed file; raises Refused unless one of these keys signed it."""
    with tempfile.TemporaryDirectory(prefix="redoubt-gpgv-") as scratch:
        source, target = Path(scratch) / "InRelease", Path(scratch) / "Release"
        source.write_bytes(signed)
        # gpgv fails when one of several signatures is by a key it does not know; the status lines tell them apart.
        words = ["--keyring", str(keyring.resolve()), "--status-fd", "1", "--output", str(target), str(source)]
        said = run(["gpgv", *words], f"verify the index of {suite}", may_fail=True).decode(errors="replace")
        signers = {line.split()[-1] for line in said.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")}
        if "[GNUPG:] BADSIG" in said or not signers.intersection(fingerprints) or not target.is_file():
            raise Refused(
                f"the index of {suite} is not signed by a key of the recipe",
                remedy="name another mirror (--mirror URL), or, after a change of the distribution's keys, correct "
                "signed_by and the keyring of the recipe",
                code="index_not_trusted",
                reasons=tuple(f"signed by {signer}" for signer in sorted(signers)),
            )
        return target.read_bytes()


def _component_indexes(
    release: dict[str, str], archive: Archive, suite: str, distribution: Distribution, mirror: Mirror, store: BlobStore
) -> Iterator[tuple[str, str, Index]]:
    listed = {
        path: (sha256, int(size)) for sha256, size, path in map(str.split, release["SHA256"].strip().splitlines())
    }
    for component in distribution.components:
        folder = f"{component}/binary-{distribution.architecture}"
        if f"{folder}/Packages.xz" not in listed:
            continue
        sha256, size_bytes = listed[f"{folder}/Packages.xz"]
        url = mirror.url(archive.name, f"dists/{suite}/{folder}/by-hash/SHA256/{sha256}")
        blob = store.fetch(Download(f"index of {suite}/{component}", url, sha256, size_bytes))
        date = parsedate_to_datetime(release["Date"])
        text = lzma.decompress(blob.read_bytes()).decode()
        yield (
            component,
            text,
            Index(suite=suite, component=component, date=date, sha256=listed[f"{folder}/Packages"][0]),
        )
