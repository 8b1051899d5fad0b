"""Python packages: the wheels of a lock and of the project, as an index of plain files (PEP 503)."""

import html
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from controlplane.bundle.command import run
from controlplane.bundle.manifest import digest_stream
from controlplane.bundle.recipe import Python
from controlplane.kit.errors import BadInput

OLDEST_GLIBC = 17  # manylinux2014, the oldest tag that wheels still carry
DOWNLOADS_AT_ONCE = 4
PROJECT = "redoubt"


def download_wheels(target: Path, lock: Path, python: Python) -> None:
    """Put every wheel of the lock into `target`, checked against the hashes of the lock."""
    pins = re.split(r"\n(?=\S)", lock.read_text().strip())
    pins = [pin for pin in pins if pin and not pin.startswith("#")]
    if not pins:
        raise BadInput(f"{lock} pins nothing", remedy="run `make lock` and build again")
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        shares = [pins[start::DOWNLOADS_AT_ONCE] for start in range(DOWNLOADS_AT_ONCE)]
        list(pool.map(lambda share: _download(target, share, python), filter(None, shares)))


def _download(target: Path, pins: list[str], python: Python) -> None:
    share = target / f".{pins[0].partition('=')[0]}.txt"
    share.write_text("\n".join(pins))
    tags = [f"manylinux_2_{minor}_x86_64" for minor in range(python.glibc, OLDEST_GLIBC - 1, -1)]
    platforms = [f"--platform={tag}" for tag in (*tags, "manylinux2014_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    only = ["--require-hashes", "--only-binary=:all:", f"--python-version={python.version}", *platforms]
    run([*command, *only, "--dest", str(target), "--requirement", str(share)], "download the wheels")
    share.unlink()


def build_project(target: Path, project: Path) -> None:
    """Build the project's own wheel; the same sources give the same bytes."""
    build = ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    run(["env", "SOURCE_DATE_EPOCH=1577836800", sys.executable, *build], "build the project's wheel", cwd=project)


def write_index(target: Path, wheels: list[Path]) -> None:
    """Write `simple/` of PEP 503 below `target`, whose wheels lie in `target/files`."""
    by_name: dict[str, list[Path]] = {}
    for wheel in wheels:
        by_name.setdefault(_normal(wheel.name.partition("-")[0]), []).append(wheel)
    for name, found in by_name.items():
        links = [f'<a href="../../files/{wheel.name}#sha256={_sha256(wheel)}">{wheel.name}</a>' for wheel in found]
        _write_page(target / "simple" / name / "index.html", links)
    _write_page(target / "simple" / "index.html", [f'<a href="{name}/">{name}</a>' for name in sorted(by_name)])


def write_requirements(target: Path, wheels: Path, python: Python, *, project: Path) -> None:
    """Write `<extra>.txt` with hashes for each extra: what a node needs that wants nothing else."""
    own = next(wheels.glob(f"{PROJECT}-*.whl"))
    version = own.name.split("-")[1]
    for extra in python.extras:
        resolved = _resolve(wheels, python, project, extra)
        text = f"{resolved}{PROJECT}=={version} \\\n    --hash=sha256:{_sha256(own)}\n"
        (target / f"{extra}.txt").write_text(text)


def _resolve(wheels: Path, python: Python, project: Path, extra: str) -> str:
    tool = Path(sys.executable).parent / "uv"
    command = [str(tool), "pip", "compile", "--quiet", "--no-config", "--offline", "--no-index", "--generate-hashes"]
    quiet = ["--no-header", "--no-annotate", "--no-emit-find-links", "--find-links", str(wheels)]
    node = [f"--python-version={python.version}", f"--python-platform=x86_64-manylinux_2_{python.glibc}"]
    wanted = ["--extra", extra, str(project / "pyproject.toml")]
    return run([*command, *quiet, *node, *wanted], f"resolve the extra {extra}").decode()


def _write_page(path: Path, links: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    title = html.escape(path.parent.name)
    body = "<br>\n".join(sorted(links))
    path.write_text(f"<!DOCTYPE html>\n<html><head><title>{title}</title></head><body>\n{body}\n</body></html>\n")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return digest_stream(stream)[0]
