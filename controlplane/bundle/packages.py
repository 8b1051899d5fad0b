"""Debian packages: the closure that a base image lacks, as a signed repository of plain files."""

import lzma
import re
import shutil
import tempfile
from pathlib import Path

from controlplane.bundle.command import run
from controlplane.bundle.keys import BuilderKeys, clearsign
from controlplane.bundle.recipe import Distribution

REPOSITORY_SUITE = "redoubt"


def make_repository(
    target: Path, distribution: Distribution, names: tuple[str, ...], *, base: Path | None, keys: BuilderKeys
) -> None:
    """Download `names` and everything they need that `base` lacks, index and sign them below `target`."""
    pool = target / "pool"
    pool.mkdir()
    with tempfile.TemporaryDirectory(prefix="redoubt-apt-") as scratch:
        _download(Path(scratch), distribution, names, base, pool)
    for deb in pool.glob("*%3a*"):  # a percent sign in a file name is ambiguous in a URL
        deb.rename(pool / re.sub(r"_\d+%3a", "_", deb.name))
    _index(target, distribution, keys)


def _download(scratch: Path, distribution: Distribution, names: tuple[str, ...], base: Path | None, pool: Path) -> None:
    # An apt root without a single package: mmdebstrap fills in its mirror and verifies the distribution's signatures.
    root = scratch / "root"
    plan = ["--variant=custom", "--mode=chrootless", f"--components={','.join(distribution.components)}"]
    keep = ["--skip=cleanup/apt,cleanup/apt/lists", f"--architectures={distribution.architecture}"]
    run(["mmdebstrap", *plan, *keep, distribution.suite, str(root)], "read the package lists")
    wanted = [*names]
    if base is None:
        wanted.append("?essential")
    else:
        shutil.copyfile(base / "var/lib/dpkg/status", root / "var/lib/dpkg/status")
    (pool / "partial").mkdir()
    configuration = scratch / "apt.conf"
    configuration.write_text(_apt_configuration(root, distribution, pool))
    command = ["env", f"APT_CONFIG={configuration}", "apt-get", "-qq", "--yes", "--download-only", "install", *wanted]
    run(command, "download the packages")
    shutil.rmtree(pool / "partial")
    (pool / "lock").unlink(missing_ok=True)


def _apt_configuration(root: Path, distribution: Distribution, pool: Path) -> str:
    settings = {
        "Dir": root,
        "Dir::Bin::Methods": "/usr/lib/apt/methods",
        "Dir::Bin::dpkg": "/usr/bin/dpkg",
        "Dir::Etc::Trusted": "/dev/null",
        "Dir::Etc::TrustedParts": "/usr/share/keyrings",
        "Dir::Cache::archives": pool,
        "APT::Architecture": distribution.architecture,
        "APT::Architectures": distribution.architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
    }
    return "".join(f'{name} "{value}";\n' for name, value in settings.items())


def _index(target: Path, distribution: Distribution, keys: BuilderKeys) -> None:
    release = target / "dists" / REPOSITORY_SUITE
    binary = release / "main" / f"binary-{distribution.architecture}"
    binary.mkdir(parents=True)
    packages = run(["apt-ftparchive", "packages", "pool"], "index the packages", cwd=target)
    (binary / "Packages").write_bytes(packages)
    (binary / "Packages.xz").write_bytes(lzma.compress(packages, preset=2))
    settings = {
        "Origin": "Redoubt",
        "Suite": REPOSITORY_SUITE,
        "Codename": REPOSITORY_SUITE,
        "Components": "main",
        "Architectures": distribution.architecture,
    }
    options = [part for key, value in settings.items() for part in ("-o", f"APT::FTPArchive::Release::{key}={value}")]
    listing = run(["apt-ftparchive", *options, "release", "."], "describe the repository", cwd=release)
    (release / "Release").write_bytes(listing)
    clearsign(keys, release / "Release", release / "InRelease")
