"""Python packages: the wheels that pip would choose for a node, brought by pip, which knows this machine's index."""

import email.message
import email.parser
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from controlplane.bundle.command import run
from controlplane.bundle.download import Advance
from controlplane.bundle.lock import Artefact
from controlplane.bundle.recipe import Python
from controlplane.bundle.store import BlobStore
from controlplane.kit.errors import BadInput, RedoubtError, Refused, Unavailable

OLDEST_GLIBC = 17  # manylinux2014, the oldest tag that wheels still carry
DOWNLOADS_AT_ONCE = 4
PROJECT = "redoubt"
UNKNOWN_LICENCE = "unknown"
LONGEST_LICENCE = 60
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)")
STARTUP = re.compile(
    r"^(?:[^/]+\.data/(?:purelib|platlib|data/.*site-packages)/)?[^/]+\.pth$|(?:^|/)(?:site|user)customize\b"
)
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Pin:
    """One requirement of a lock of Python packages: which files may stand for it."""

    name: str
    version: str
    hashes: frozenset[str]

    @property
    def line(self) -> str:
        return f"{self.name}=={self.version} " + " ".join(f"--hash=sha256:{one}" for one in sorted(self.hashes))


def read_pins(path: Path) -> list[Pin]:
    """Read a lock of Python packages; raises BadInput when it pins nothing."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist", remedy="name the lock of the nodes' Python packages: --locks FILE")
    chunks = re.split(r"\n(?=\S)", path.read_text().strip())
    pins = [Pin(match["name"], match["version"], frozenset(HASH.findall(chunk))) for chunk, match in _matches(chunks)]
    if not pins:
        raise BadInput(f"{path} pins nothing", remedy="run `make lock` and repeat")
    return pins


def _matches(chunks: list[str]) -> list[tuple[str, re.Match[str]]]:
    return [(chunk, match) for chunk in chunks if (match := PIN.match(chunk))]


def fetch_wheels(wheels: list[Artefact], python: Python, store: BlobStore, advance: Advance) -> list[RedoubtError]:
    """Bring locked wheels into the store; return what went wrong."""
    shares = [wheels[start::DOWNLOADS_AT_ONCE] for start in range(DOWNLOADS_AT_ONCE)]
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        tried = pool.map(lambda share: _fetch_share(share, python, store, advance), filter(None, shares))
        return [error for errors in tried for error in errors]


def _fetch_share(wheels: list[Artefact], python: Python, store: BlobStore, advance: Advance) -> list[RedoubtError]:
    """Ask pip once for all; when that fails, once for each, to learn which it is."""
    try:
        _fetch_together(wheels, python, store, advance)
    except RedoubtError as error:
        if len(wheels) == 1:
            return [_named(wheels[0], error)]
        return [error for wheel in wheels for error in _fetch_share([wheel], python, store, advance)]
    return []


def _fetch_together(wheels: list[Artefact], python: Python, store: BlobStore, advance: Advance) -> None:
    with tempfile.TemporaryDirectory(prefix="redoubt-wheels-") as scratch:
        _pip_download(Path(scratch), [_pin_of(wheel) for wheel in wheels], python)
        for wheel in wheels:
            store.add(Path(scratch) / wheel.filename)
            advance(wheel.size_bytes)


def _pin_of(wheel: Artefact) -> Pin:
    return Pin(wheel.name, wheel.version, frozenset({wheel.sha256}))


def _named(wheel: Artefact, error: RedoubtError) -> RedoubtError:
    said = f"{error.detail} {' '.join(error.reasons)}"
    # pip says this both for a version that the index no longer has and for files whose digest is another.
    if "No matching distribution" in said:
        remedy = "make the lock of Python packages anew (make lock), then: redoubt bundle lock"
        return Unavailable(
            f"{wheel.name} {wheel.version}: the index no longer has {wheel.filename}",
            remedy=remedy,
            code="artefact_gone",
        )
    if "DO NOT MATCH THE HASHES" in said:
        remedy = "make the lock of Python packages anew (make lock), if the index is right"
        return Refused(
            f"{wheel.name} {wheel.version}: the index gives other bytes", remedy=remedy, code="artefact_altered"
        )
    return Unavailable(f"{wheel.name} {wheel.version}: {error.detail}", remedy=error.remedy)


def download_pins(target: Path, pins: list[Pin], python: Python) -> list[Path]:
    """Put the wheel that pip chooses for each pin into `target`."""
    shares = [pins[start::DOWNLOADS_AT_ONCE] for start in range(DOWNLOADS_AT_ONCE)]
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        list(pool.map(lambda share: _pip_download(target, share, python), filter(None, shares)))
    return sorted(target.glob("*.whl"))


def _pip_download(target: Path, pins: list[Pin], python: Python) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write("\n".join(pin.line for pin in pins))
        wanted.flush()
        tags = [f"manylinux_2_{minor}_x86_64" for minor in range(python.glibc, OLDEST_GLIBC - 1, -1)]
        platforms = [f"--platform={tag}" for tag in (*tags, "manylinux2014_x86_64")]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        only = ["--require-hashes", "--only-binary=:all:", f"--python-version={python.version}", *platforms]
        run([*command, *only, "--dest", str(target), "--requirement", wanted.name], "download the wheels")


def requires_python(path: Path) -> str:
    """Return which interpreters a wheel's metadata admits."""
    return str(_metadata(path).get("Requires-Python") or "")


def refuse_startup_code(path: Path) -> None:
    """Raise Refused for a wheel with code that runs whenever Python starts, imported or not.

    That is how LiteLLM 1.82.7 and 1.82.8 stole secrets; a hash in the lock does not help when the lock was made after.
    """
    with zipfile.ZipFile(path) as archive:
        found = [name for name in archive.namelist() if STARTUP.search(name)]
    if found:
        raise Refused(
            f"{path.name} holds code that runs whenever Python starts: {found[0]}",
            remedy="look at the package; pin a version without it: make lock, then redoubt bundle lock",
            code="startup_code",
        )


def wheel_licence(path: Path) -> str:
    """Return the licence that a wheel's metadata states: an SPDX expression, else classifiers, else a short line."""
    metadata = _metadata(path)
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classified = [
        str(value).rpartition(" :: ")[2]
        for value in metadata.get_all("Classifier") or ()
        if str(value).startswith("License :: ")
    ]
    line = str(metadata.get("License") or "").strip()
    if classified:
        return " AND ".join(sorted(classified))
    return line if line and "\n" not in line and len(line) <= LONGEST_LICENCE else UNKNOWN_LICENCE


def _metadata(path: Path) -> email.message.Message:
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.BytesParser().parsebytes(archive.read(name), headersonly=True)


def wheel_names(path: Path) -> tuple[str, str]:
    """Return name and version of a wheel, as its file name has them."""
    name, version = path.name.split("-")[:2]
    return normal(name), version


def normal(name: str) -> str:
    """Return the one spelling of a Python package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def build_wheel(target: Path, project: Path) -> Path:
    """Build the product's own wheel."""
    build = ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    run(["env", "SOURCE_DATE_EPOCH=1577836800", sys.executable, *build], "build the project's wheel", cwd=project)
    return next(target.glob(f"{PROJECT}-*.whl"))


def resolve_extras(wheels: Path, python: Python, project: Path, extras: Iterable[str]) -> dict[str, str]:
    """Return for each extra the pins with hashes that it needs, chosen among these wheels alone."""
    names = sorted(extras)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda extra: _resolve(wheels, python, project, extra), names), strict=True))


def _resolve(wheels: Path, python: Python, project: Path, extra: str) -> str:
    tool = Path(sys.executable).parent / "uv"
    command = [str(tool), "pip", "compile", "--quiet", "--no-config", "--offline", "--no-index", "--generate-hashes"]
    quiet = ["--no-header", "--no-annotate", "--no-emit-find-links", "--find-links", str(wheels)]
    node = [f"--python-version={python.version}", f"--python-platform=x86_64-manylinux_2_{python.glibc}"]
    wanted = ["--extra", extra, str(project / "pyproject.toml")]
    return run([*command, *quiet, *node, *wanted], f"resolve the extra {extra}").decode()


def pinned_names(resolved: str) -> set[str]:
    """Return the names that resolved pins hold."""
    return {normal(match["name"]) for _, match in _matches(resolved.splitlines())}


def place_wheels(wheels: Iterable[Artefact], store: BlobStore, target: Path) -> None:
    """Give the wheels of the store their names below `target`."""
    target.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        store.link(wheel.sha256, target / wheel.filename)
