"""Hold the locks against known advisories, offline: `tools/advisories [--take-in EXPORT.zip]`.

The folder holds advisories in OSV form (ossf.github.io/osv-schema) and `as_of.json`. Exit 1 names every pinned version
that an advisory covers. On a builder with a network, fetch OSV's export of this ecosystem (a zip of one JSON file an
advisory) and take it in: what concerns no pinned package stays out, and the date becomes today's.
"""

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any  # JSON as others write it

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
LOCKS = ("locks/node.lock", "locks/dev.lock")
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)
ECOSYSTEM = "PyPI"


@dataclass(frozen=True)
class Finding:
    advisory: str
    package: str
    version: str
    lock: str
    summary: str

    def __str__(self) -> str:
        return f"{self.lock}: {self.package} {self.version} is covered by {self.advisory}: {self.summary}"


def main(words: list[str] | None = None) -> int:
    """Check, or take in an export; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="the advisories")
    parser.add_argument("--lock", type=Path, action="append", help="a lock; twice for two (all of the tree)")
    parser.add_argument("--take-in", type=Path, metavar="EXPORT.zip", help="replace the advisories from OSV's export")
    asked = parser.parse_args(words)
    locks = asked.lock or [ROOT / lock for lock in LOCKS]
    pins = {(lock.name, *pin) for lock in locks for pin in pins_of(lock.read_text())}
    today = datetime.now(UTC).date()
    if asked.take_in:
        return take_in(asked.take_in, asked.folder, {package for _, package, _ in pins}, today)
    return check(asked.folder, pins, today)


def check(folder: Path, pins: set[tuple[str, str, str]], today: date) -> int:
    """Print every finding and the age of what they were looked for in."""
    advisories = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.name != "as_of.json"]
    as_of = date.fromisoformat(json.loads((folder / "as_of.json").read_text())["as_of"])
    found = sorted({str(finding) for finding in findings(advisories, pins)})
    print("\n".join(found), end="\n" if found else "")
    age = (today - as_of).days
    print(f"advisories: {len(found)} found; {len(advisories)} known, {age} days old; {len(pins)} pinned versions")
    return 1 if found or not advisories or not pins else 0


def pins_of(lock: str) -> list[tuple[str, str]]:
    """Return every package and version that a lock names."""
    return [(canonicalize_name(name), version) for name, version in PIN.findall(lock)]


def findings(advisories: Iterable[dict[str, Any]], pins: set[tuple[str, str, str]]) -> Iterator[Finding]:
    """Yield each pinned version that an advisory covers; a version that nobody can read is covered."""
    for advisory in advisories:
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", ()):
            named = canonicalize_name(affected.get("package", {}).get("name", ""))
            for lock, package, version in pins:
                if package == named and covers(affected, version):
                    yield Finding(advisory["id"], package, version, lock, advisory.get("summary", ""))


def covers(affected: dict[str, Any], version: str) -> bool:
    """Say whether one version is affected: named, or within a range of it (OSV schema, "evaluation")."""
    if version in affected.get("versions", ()):
        return True
    return any(
        _within(spread["events"], version) for spread in affected.get("ranges", ()) if spread.get("type") == "ECOSYSTEM"
    )


def _within(events: list[dict[str, str]], version: str) -> bool:
    """Walk the events in the order of their versions; the last one that applies decides."""
    try:
        mine = Version(version)
        sortable = sorted(
            ((Version(at if at != "0" else "0.dev0"), kind) for event in events for kind, at in event.items()),
            key=lambda one: one[0],
        )
    except InvalidVersion:
        return True
    inside = False
    for at, kind in sortable:
        if kind == "introduced" and mine >= at:
            inside = True
        elif (kind == "fixed" and mine >= at) or (kind == "last_affected" and mine > at):
            inside = False
    return inside


def take_in(export: Path, folder: Path, packages: set[str], today: date) -> int:
    """Replace the advisories by those of an export that concern a pinned package."""
    with zipfile.ZipFile(export) as held:
        read = [json.loads(held.read(name)) for name in held.namelist() if name.endswith(".json")]
    kept = [one for one in read if not one.get("withdrawn") and packages & set(_named(one))]
    if not kept:
        print(f"{export} concerns no pinned package: nothing was changed")
        return 1
    for old in folder.glob("*.json"):
        old.unlink()
    for one in kept:
        name = re.sub(r"[^\w.-]", "_", one["id"])
        (folder / f"{name}.json").write_text(json.dumps(one, indent=1, sort_keys=True) + "\n")
    (folder / "as_of.json").write_text(json.dumps({"as_of": today.isoformat(), "from": export.name}) + "\n")
    print(f"advisories: {len(kept)} of {len(read)} concern a pinned package; look at the difference, then commit it")
    return 0


def _named(advisory: dict[str, Any]) -> Iterator[str]:
    for affected in advisory.get("affected", ()):
        package = affected.get("package", {})
        if package.get("ecosystem") == ECOSYSTEM:
            yield canonicalize_name(package["name"])


if __name__ == "__main__":
    sys.exit(main())
