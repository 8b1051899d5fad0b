"""Stamps of stages on a node: what a stage was made of, and what it left behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any

FOLDER = Path("/var/lib/redoubt-stages")
LOCK = FOLDER / "apply.lock"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
WHOLE_BYTES = 1 << 20  # larger files, such as weights, are known by size and time

Stamp = dict[str, Any]  # JSON of our own


def stamp_file(stage: str) -> Path:
    """Return where the stamp of a stage lies."""
    return FOLDER / f"{stage}.json"


def begun_file(stage: str) -> Path:
    """Return the mark that says since when a stage is unfinished."""
    return FOLDER / f"{stage}.begun"


def begin(stages: list[str]) -> None:
    """Mark stages as unfinished; a mark that an interrupted run left keeps its time."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    for stage in stages:
        if not begun_file(stage).exists():
            begun_file(stage).touch(mode=0o600)


def seal(stage: str, inputs: str, made: Stamp) -> None:
    """Write the stamp of a stage whose tasks and handlers all succeeded."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = {
        "inputs": inputs,
        "at": int(time.time()),
        "boot": BOOT_ID.read_text(encoding="utf-8").strip() if made.get("boot") else "",
        "files": digests_of(made.get("files", [])),
        "globs": made.get("files", []),
        "units": active(made.get("units", [])),
        "asks": made.get("asks", []),
        "answers": [answer(asked) for asked in made.get("asks", [])],
    }
    fresh = stamp_file(stage).with_suffix(".new")
    fresh.write_text(json.dumps(stamp), encoding="utf-8")
    fresh.chmod(0o600)
    fresh.rename(stamp_file(stage))
    begun_file(stage).unlink(missing_ok=True)
    if LOCK.exists():
        LOCK.touch()  # whoever holds it is alive


def forget(stage: str) -> None:
    """Remove the stamp of a stage, so that it is evaluated again."""
    stamp_file(stage).unlink(missing_ok=True)


def stamps() -> dict[str, Stamp]:
    """Return every finished stage with its inputs, its age, and what is not as it was left."""
    found = {path.stem: read(path) for path in sorted(FOLDER.glob("*.json"))}
    down = inactive(sorted({unit for stamp in found.values() for unit in stamp.get("units", [])}))
    return {stage: judged(stamp, down) for stage, stamp in found.items() if not begun_file(stage).exists()}


def judged(stamp: Stamp, down: set[str]) -> Stamp:
    """Compare what a stage left with what is there now."""
    now, then = digests_of(stamp.get("globs", [])), stamp.get("files", {})
    moved = [f"{path} changed" for path in sorted(now.keys() | then.keys()) if now.get(path) != then.get(path)]
    moved += [f"{unit} is not active" for unit in stamp.get("units", []) if unit in down]
    asked = zip(stamp.get("asks", []), stamp.get("answers", []), strict=False)
    moved += [f"{' '.join(words)} answers otherwise" for words, answered in asked if answer(words) != answered]
    if stamp.get("boot") and stamp["boot"] != BOOT_ID.read_text(encoding="utf-8").strip():
        moved.append("the node was started anew")
    return {"inputs": stamp.get("inputs", ""), "age_s": int(time.time()) - stamp.get("at", 0), "moved": moved}


def read(path: Path) -> Stamp:
    """Return a stamp; one that cannot be read is none."""
    try:
        found: Stamp = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found


def digests_of(globs: list[str]) -> dict[str, str]:
    """Return what stands at these paths, by path; what is not there has no entry."""
    paths = {path for pattern in globs for path in Path("/").glob(pattern.lstrip("/"))}
    return {str(path): digest_of(path) for path in sorted(paths) if path.is_symlink() or not path.is_dir()}


def digest_of(path: Path) -> str:
    """Return a digest of a file or link, of its content and who may read it."""
    seen = path.lstat()
    if path.is_symlink():
        return f"-> {path.readlink()}"
    rights = f"{seen.st_mode:o}:{seen.st_uid}:{seen.st_gid}"
    if seen.st_size > WHOLE_BYTES:
        return f"{rights}:{seen.st_size}:{seen.st_mtime_ns}"
    return f"{rights}:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def active(units: list[str]) -> list[str]:
    """Return the units of a list that are active."""
    down = inactive(units)
    return [unit for unit in units if unit not in down]


def inactive(units: list[str]) -> set[str]:
    """Ask systemd once which of these units are not active."""
    if not units:
        return set()
    done = subprocess.run(["systemctl", "is-active", *units], capture_output=True, text=True, check=False)
    said = done.stdout.split()
    return {unit for unit, state in zip(units, said, strict=False) if state != "active"} if said else set(units)


def answer(words: list[str]) -> str:
    """Return a digest of what a command says; a command that fails says nothing."""
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except OSError:
        return ""
    return "" if done.returncode else hashlib.sha256(done.stdout).hexdigest()


def is_unfinished(stage: str, path: Path) -> bool:
    """Tell whether a file was written by a stage that never came to its end: what it had to notify may be lost."""
    mark = begun_file(stage)
    return bool(stage) and mark.exists() and path.exists() and path.lstat().st_ctime >= mark.lstat().st_mtime
