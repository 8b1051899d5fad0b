"""How fast, how small and how alike bundles are: `python -m tests.bench.bundle [--json FILE] [--size-mib 512]`.

Everything is in the page cache, so hashes are compared and not disks. The yardsticks are sha256sum and openssl on the
same file; all are judged by the processor time that they take, which neighbours disturb less than the clock. Trust
ratios within one run.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from controlplane.bundle.build import Built, Order, build_bundle
from controlplane.bundle.lock import Artefact, Lock, LockedDistribution
from controlplane.bundle.recipe import Recipe
from controlplane.bundle.store import BlobStore

ROUNDS = 3
MIB = 1 << 20
PIECES = 16  # files of one bundle, so that every core has work
# Says its own times, so that the start of an interpreter is not counted.
TIMED = """
import json, sys, time
from pathlib import Path
from controlplane.bundle.verify import Trust, verify_bundle
wall, cpu = time.perf_counter(), time.process_time()
verify_bundle(Path(sys.argv[1]), Trust(Path(sys.argv[2])))
print(json.dumps({"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}))
"""


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    wall_s: float
    cpu_s: float
    memory_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--size-mib", type=int, default=512)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="redoubt-bench-") as home:
        report = measure(Path(home), asked.size_mib * MIB)
    text = json.dumps(report, indent=1)
    if asked.json:
        asked.json.write_text(text + "\n")
    print(text)
    sys.exit(0 if all(report["met"].values()) else 1)


def measure(home: Path, size_bytes: int) -> dict[str, dict]:
    """Return every figure: two builders, the yardsticks, verification on one core and on all, memory, disk."""
    one, other, small = (make_builder(home / name, size) for name, size in (
        ("one", size_bytes), ("two", size_bytes), ("small", size_bytes // 4),
    ))  # fmt: skip
    built, again, _ = (build(order) for order in (one, other, small))
    tar = tar_of(one)
    sha256sum = best(lambda: run("sha256sum", str(tar)))
    openssl = best(lambda: run("openssl", "dgst", "-sha256", str(tar)))
    alone, whole = best(lambda: verify(one, tar, cores=1)), best(lambda: verify(one, tar))
    folder, little = best(lambda: verify(one, one.out)), best(lambda: verify(small, tar_of(small)))
    content, tar_bytes = built.size_bytes, tar.stat().st_size
    per_core = content / alone.cpu_s
    rates = {
        "sha256sum_per_core": tar_bytes / sha256sum.cpu_s,
        "openssl_per_core": tar_bytes / openssl.cpu_s,
        "verify_per_core": per_core,
        "verify_tar_clock": content / whole.wall_s,
        "verify_folder_clock": content / folder.wall_s,
    }
    ratios = {
        "verify_over_sha256sum": per_core / rates["sha256sum_per_core"],
        "verify_over_openssl": per_core / rates["openssl_per_core"],
        "all_cores_over_one": alone.wall_s / whole.wall_s,
        "store_and_folder_over_content": used_bytes(one.cache / "blobs", one.out) / content,
        "memory_of_four_times_the_size": whole.memory_mib / little.memory_mib,
    }
    return {
        "machine": {"cores": len(os.sched_getaffinity(0)), "load_1m": round(os.getloadavg()[0], 1)},
        "mib_per_s": {name: round(rate / MIB) for name, rate in rates.items()},
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "memory_mib": {"quarter": round(little.memory_mib), "whole": round(whole.memory_mib)},
        "bytes": {"content": content, "tar": tar_bytes},
        "met": {
            "verify at least 0.9 of sha256sum per core": ratios["verify_over_sha256sum"] >= 0.9,
            "disk at most 1.1 of the content": ratios["store_and_folder_over_content"] <= 1.1,
            "two builders, one digest": built.digest == again.digest,
            "memory constant": ratios["memory_of_four_times_the_size"] < 1.2,
        },
    }


def tar_of(order: Order) -> Path:
    return order.out.with_name("bundle.tar")


def make_builder(home: Path, size_bytes: int) -> Order:
    """Return the order of a builder with store, keys and folders of its own; the artefacts are the same everywhere."""
    (home / "in").mkdir(parents=True)
    store = BlobStore(home / "cache")
    names = [f"part-{number}" for number in range(PIECES)]
    artefacts = tuple(_artefact(store, home / "in", name, size_bytes // PIECES) for name in names)
    local = {name: {"type": "file", "filename": name, "version": "1", "licence": "none"} for name in names}
    recipe = Recipe.model_validate({
        "distribution": {
            "archives": [{"name": "x", "suites": ["trixie"]}], "components": [], "keyring": "x", "signed_by": ["x"],
        },
        "python": {"version": "3.13", "glibc": 40}, "features": {"base": {"local": names}}, "local": local,
    })  # fmt: skip
    lock = Lock(
        serial=1,
        created_at=datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0),
        recipe=recipe.digest,
        distribution=LockedDistribution(suite="trixie", architecture="amd64", indexes=()),
        artefacts=artefacts,
    )
    out = home / "out/bundle"
    return Order(recipe, lock, out, out.with_name("bundle.tar"), Path.cwd(), home / "cache")


def _artefact(store: BlobStore, folder: Path, name: str, size_bytes: int) -> Artefact:
    path = folder / name
    block = hashlib.shake_128(name.encode()).digest(MIB)
    with path.open("wb") as out:
        for _ in range(size_bytes // MIB):
            out.write(block)
    sha256 = store.add(path)
    size = path.stat().st_size
    path.unlink()
    return Artefact(
        type="file", name=name, version="1", filename=name, source=f"local:{name}", size_bytes=size, sha256=sha256,
        needed_by=("base",), licence="none",
    )  # fmt: skip


def build(order: Order) -> Built:
    return build_bundle(order, lambda _: None)


def verify(order: Order, form: Path, cores: int = 0) -> Cost:
    """Verify a bundle in a process of its own, as the CLI does; `cores` limits it to so many."""
    chosen = sorted(os.sched_getaffinity(0))[: cores or None]
    limits = ("taskset", "--cpu-list", ",".join(map(str, chosen)))
    return run(*limits, sys.executable, "-c", TIMED, str(form), str(order.cache), tells=True)


def run(*argv: str, tells: bool = False) -> Cost:
    """Run a program and return what it took, or what it says that it took."""
    started = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    said = process.stdout.read() if process.stdout else b""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} failed with {process.returncode}")
    memory_mib = used.ru_maxrss / 1024
    if tells:
        return Cost(**json.loads(said), memory_mib=memory_mib)
    return Cost(time.monotonic() - started, used.ru_utime + used.ru_stime, memory_mib)


def best(measured: Callable[[], Cost]) -> Cost:
    """Return the least of each figure, but the most memory."""
    costs = [measured() for _ in range(ROUNDS)]
    return Cost(min(c.wall_s for c in costs), min(c.cpu_s for c in costs), max(c.memory_mib for c in costs))


def used_bytes(*folders: Path) -> int:
    """Return the bytes that files below these folders take, each file once however many names it has."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                facts = path.stat()
                found[facts.st_dev, facts.st_ino] = facts.st_size
    return sum(found.values())


if __name__ == "__main__":
    main()
