"""redoubt bundle: the signed set of everything a site needs."""

import time
from pathlib import Path
from typing import Annotated

import typer

from controlplane.bundle.trust import timestamp
from controlplane.bundle.verify import Verified, inspect_bundle, overrides_of, verify_bundle
from controlplane.cli import bundle_build, bundle_lock, bundle_transfer, bundle_trust
from controlplane.cli.bundle_closure import check_closure, lock_of
from controlplane.cli.bundle_trust import DEFAULT_CACHE, Accept, Cache, RootFile, trust_of
from controlplane.cli.screen import Json, say, show_json
from controlplane.kit.errors import BadInput

app = typer.Typer(no_args_is_help=True, help="The signed set of everything a site needs.")

app.command()(bundle_lock.lock)
app.command("list")(bundle_lock.list_artefacts)
app.command()(bundle_lock.fetch)
app.command()(bundle_build.build)
app.add_typer(bundle_trust.trust, name="trust")
app.command()(bundle_trust.sign)
app.command()(bundle_transfer.diff)
app.command()(bundle_transfer.split)
app.command()(bundle_transfer.join)
app.command("import")(bundle_transfer.import_bundle)
app.command("log")(bundle_transfer.show_log)

Where = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder of a bundle, or its .tar.")]
Closure = Annotated[
    Path | None, typer.Option("--closure", help="Folder of a site's spec: can it reach for anything not held?")
]
LockFile = Annotated[Path | None, typer.Option("--lock", help="The lock that closure is held against.")]


@app.command()
def verify(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="The folder of a bundle, or its .tar.")
    ] = None,
    closure: Closure = None,
    lock: LockFile = None,
    root: RootFile = None,
    accept: Accept = "",
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Check signatures, expiry, floor and every byte; a file that differs is named. --closure asks about a site."""
    if closure:
        check_closure(closure, lock=lock or lock_of(bundle), as_json=as_json)
        return
    if bundle is None:
        raise BadInput("no bundle is named", remedy="name its folder or its .tar, or a site: --closure inventory/SITE")
    started = time.monotonic()
    _show(verify_bundle(bundle, trust_of(root, cache, accept)), started, as_json=as_json, word="verified")


@app.command()
def inspect(
    bundle: Where, root: RootFile = None, accept: Accept = "", cache: Cache = DEFAULT_CACHE, as_json: Json = False
) -> None:
    """Check signatures, expiry and floor, and say what the bundle holds, without reading its files."""
    started, trust = time.monotonic(), trust_of(root, cache, accept)
    found = inspect_bundle(bundle, trust)
    overrides = overrides_of(found.digest, trust)
    _show(found, started, as_json=as_json, word="signed, files not read", overrides=overrides)
    if not as_json:
        for model in found.manifest.models:
            say(f"  model {model.name}: {model.size_bytes} bytes, {model.licence}")
        for file in found.manifest.files:
            say(f"  {file.sha256[:16]} {file.size_bytes:>12} {file.path}")


def _show(found: Verified, started: float, *, as_json: bool, word: str, overrides: tuple[str, ...] = ()) -> None:
    manifest = found.manifest
    if as_json:
        seconds = round(time.monotonic() - started, 2)
        facts = {"digest": found.digest, "files": len(manifest.files), "size_bytes": manifest.size_bytes}
        models = [model.model_dump() for model in manifest.models]
        trust = {"root": found.root.root.version, "signers": found.signers, "overrides": overrides}
        age = {"serial": manifest.serial, "floor": manifest.floor, "expires_at": timestamp(manifest.expires_at)}
        show_json({**facts, **age, **trust, "features": manifest.features, "models": models, "seconds": seconds})
        return
    say(f"{word}: {len(manifest.files)} files, {manifest.size_bytes / 1e6:.0f} MB, digest {found.digest}")
    say(f"  serial {manifest.serial}, floor {manifest.floor}, expires {timestamp(manifest.expires_at)}")
    need = found.root.root.threshold
    say(f"  signed by {', '.join(found.signers)}: {need} needed by trust root {found.root.root.version}")
    for line in (*found.lifted, *overrides):
        say(f"  taken all the same: {line}")
