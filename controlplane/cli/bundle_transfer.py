"""redoubt bundle diff, split, join, import, log: how a bundle travels, and how it gets into a depot."""

import os
import pwd
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from controlplane.bundle.contents import SHEET
from controlplane.bundle.delta import Difference, diff_bundles, join_delta, write_delta
from controlplane.bundle.depot_folder import DepotFolder
from controlplane.bundle.intake import Asked, take_in
from controlplane.bundle.media import bytes_of, join_parts, require_parts, split_tar
from controlplane.bundle.roots import is_good_signature
from controlplane.bundle.verify import PLATFORM, given_root
from controlplane.cli.bundle_trust import DEFAULT_CACHE, Accept, Cache, RootFile, trust_of
from controlplane.cli.progress import ProgressLine
from controlplane.cli.screen import Json, say, show_json
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput

Depot = Annotated[Path, typer.Option("--depot", help="Folder of the depot.")]


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A bundle that is at the site: folder, or .tar.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The bundle to compare it with.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the tar that carries only what OLD lacks.")] = None,
    root: RootFile = None,
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Show what came, went and changed; with --out write a delta."""
    trust = trust_of(root, cache)
    found = write_delta(old, new, out, trust) if out else diff_bundles(old, new, trust)
    if as_json:
        show_json(asdict(found) | {"delta": str(out) if out else None})
    else:
        _say_difference(found)
        if out:
            say(f"{out}: {out.stat().st_size / 1e6:.0f} MB; it stands on bundle {found.old}")


def split(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.tar", help="The tar of a bundle, or a delta.")],
    size: Annotated[str, typer.Option("--size", help="Size of a medium: 4.7GB, 25GB, or bytes.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the parts and their sheet.")],
    as_json: Json = False,
) -> None:
    """Cut a tar to the size of media, with a transfer sheet to print; repeat it after an interruption."""
    done = split_tar(bundle, bytes_of(size), out, ProgressLine())
    if as_json:
        show_json({**asdict(done.sheet), "folder": str(out), "written": done.written})
    else:
        say(f"{out}: {len(done.sheet.parts)} parts, {done.written} written now; print {out}/sheet.html")


def join(
    sources: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders with the parts; or one delta.")],
    out: Annotated[Path, typer.Option("--out", help="The tar to write.")],
    base: Annotated[Path | None, typer.Option("--base", help="The bundle that a delta stands on.")] = None,
    root: RootFile = None,
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Put parts together again, or a delta onto its base; a part that is wrong is named."""
    if base:
        _require_one(sources)
        made = join_delta(sources[0], base, out, trust_of(root, cache))
        digest, size_bytes = made.digest, out.stat().st_size
    else:
        sheet = join_parts(sources, out, ProgressLine())
        digest, size_bytes = sheet.bundle, sheet.size_bytes
    if as_json:
        show_json({"tar": str(out), "digest": digest, "size_bytes": size_bytes})
    else:
        say(f"{out}: {size_bytes / 1e6:.0f} MB, bundle {digest}; next: redoubt bundle verify {out}")


def import_bundle(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A .tar, a folder, a delta, or a folder of parts.")],
    depot: Depot,
    root: RootFile = None,
    accept: Accept = "",
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Take a bundle into a depot: whole and trusted, or not at all; the one before serves until then."""
    line = ProgressLine()
    asked = Asked(
        source=source,
        depot=depot,
        root=given_root(trust_of(root, cache)),
        now=SystemClock().now(),
        who=pwd.getpwuid(os.getuid()).pw_name,
        parts=lambda: require_parts([source], line) if (source / SHEET).is_file() else (),
        platform=PLATFORM,
        accept=accept,
        begin=line.begin(f"import {source.name}"),
    )
    try:
        taken = take_in(asked, is_good_signature)
    finally:
        line.end()
    if as_json:
        show_json(asdict(taken))
    else:
        word = "is the current bundle now" if taken.changed else "was the current bundle already"
        say(f"{taken.digest} {word}: {taken.written_bytes / 1e6:.0f} MB new, {taken.linked_bytes / 1e6:.0f} MB linked")


def show_log(depot: Depot, as_json: Json = False) -> None:
    """Show what was taken in and refused, and check that no line was changed or is missing."""
    journal = DepotFolder(depot).memory.journal
    entries = journal.entries()
    if not entries:
        raise BadInput(f"{depot} has no import log", remedy="name the folder of a depot: --depot FOLDER")
    if as_json:
        show_json({"entries": entries, "head": journal.head})
        return
    for entry in entries:
        say(f"{entry['seq']:>4} {entry['at']} {entry['who']:<16} {entry['digest'][:16]:<16} {entry['result']}")
        if entry["reason"]:
            say(f"     taken all the same: {entry['reason']}")
    say(f"{len(entries)} entries, none changed or missing; the last has hash {journal.head}")


def _require_one(sources: list[Path]) -> None:
    if len(sources) > 1:
        raise BadInput(
            "--base is for one delta, and more than one source is named",
            remedy="put its parts together first: redoubt bundle join FOLDER... --out DELTA.tar, without --base",
        )


def _say_difference(found: Difference) -> None:
    for word, names in (("came", found.came), ("went", found.went), ("changed", found.changed)):
        for name in names:
            say(f"{word:<8} {name}")
    size = f"{found.carried_files} files, {found.carried_bytes / 1e6:.0f} MB to carry"
    say(f"{found.old[:16]} -> {found.new[:16]}: {size}")
