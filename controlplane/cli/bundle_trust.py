"""redoubt bundle trust and sign: keys, roots and signatures, from files alone and without a network."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from controlplane.bundle.keys import builder_keys
from controlplane.bundle.memory import roots_in
from controlplane.bundle.roots import add_root_signature, is_good_signature, name_of, new_root, trust_key
from controlplane.bundle.signing import sign_bundle
from controlplane.bundle.trust import SignedRoot, newest_root, root_bytes, timestamp
from controlplane.bundle.verify import Trust, read_root_file
from controlplane.cli.progress import ProgressLine
from controlplane.cli.screen import Json, say, show_json
from controlplane.kit.clock import SystemClock
from controlplane.kit.crypto import load_signing_key, load_verify_key, new_signing_key_pem, public_pem
from controlplane.kit.errors import BadInput

trust = typer.Typer(no_args_is_help=True, help="Who may sign bundles: roots of n of m keys, and how they hand over.")

DEFAULT_CACHE = Path("~/.cache/redoubt")

RootFile = Annotated[Path | None, typer.Option("--root", help="Trust root to pin; default: the builder's own.")]
Accept = Annotated[
    str, typer.Option("--accept", metavar="REASON", help="Take it although expired or below the floor; goes on record.")
]
Cache = Annotated[Path, typer.Option("--cache", envvar="REDOUBT_CACHE", help="Cache; holds the builder's keys.")]
Publics = Annotated[list[Path], typer.Option("--key", help="Public key of a signer; its file name is the name.")]
Threshold = Annotated[int, typer.Option("--threshold", help="How many of them must sign.")]
AptKeys = Annotated[list[Path], typer.Option("--apt-key", help="OpenPGP key of the package repository, armoured.")]
Days = Annotated[int, typer.Option("--valid-days", help="Days until the root must be rotated.")]
RootArgument = Annotated[Path, typer.Argument(metavar="ROOT.json", help="A trust root.")]
Before = Annotated[Path | None, typer.Option("--before", help="The root that this one takes over from.")]
Out = Annotated[Path, typer.Option("--out", help="File to write.")]


def trust_of(root: Path | None, cache: Path, accept: str = "") -> Trust:
    """Return what this workstation trusts, from the options of a command."""
    return Trust(cache.expanduser(), root, accept, progress=ProgressLine())


@trust.command("key")
def make_key(out: Out, as_json: Json = False) -> None:
    """Make the key of one signer: OUT stays private, OUT.pub goes to whoever makes the root."""
    public = out.with_name(f"{name_of(out)}.pub")
    for path in (out, public):
        if path.exists():
            raise BadInput(f"{path} exists already", remedy="name another file: --out FILE")
    out.touch(mode=0o600)
    out.write_bytes(new_signing_key_pem())
    key = load_signing_key(out)
    public.write_bytes(public_pem(key))
    listed = trust_key(name_of(public), key.public_key())
    if as_json:
        show_json({"key": str(out), "public": str(public), "id": listed.id})
    else:
        say(f"{out}: key {listed.id} of {listed.name}; keep it offline and hand out {public}")


@trust.command()
def init(
    key: Publics, threshold: Threshold, apt_key: AptKeys, out: Out, valid_days: Days = 730, as_json: Json = False
) -> None:
    """Make the first root of these signers; then each adds a signature."""
    _write_root(out, _made(key, threshold, apt_key, valid_days, version=1), as_json=as_json)


@trust.command()
def rotate(
    root: RootArgument,
    key: Publics,
    threshold: Threshold,
    out: Out,
    apt_key: Annotated[list[Path] | None, typer.Option("--apt-key", help="Default: those of the root before.")] = None,
    valid_days: Days = 730,
    as_json: Json = False,
) -> None:
    """Make the root that takes over from ROOT.json; enough signers of both must sign it."""
    before = read_root_file(root)
    fresh = _made(key, threshold, apt_key or [], valid_days, version=before.root.version + 1, before=before)
    _write_root(out, fresh, as_json=as_json)


@trust.command("add-signature")
def add_signature(
    root: RootArgument,
    key: Annotated[Path, typer.Option("--key", help="Private key of a signer.")],
    before: Before = None,
    as_json: Json = False,
) -> None:
    """Sign a root with one key; a rotated root is signed under the one before too."""
    previous = read_root_file(before) if before else None
    _write_root(root, add_root_signature(read_root_file(root), load_signing_key(key), previous), as_json=as_json)


@trust.command()
def show(root: RootArgument, before: Before = None, as_json: Json = False) -> None:
    """Say who may sign, how many must, until when, and whether the root itself is signed well enough."""
    signed = read_root_file(root)
    previous = read_root_file(before) if before else signed
    newest_root(previous, [signed], is_good_signature)
    _show_root(root, signed, as_json=as_json)


@trust.command()
def use(root: RootArgument, cache: Cache = DEFAULT_CACHE, as_json: Json = False) -> None:
    """Build and verify under this root from now on; it must take over from the one in use, or be the first."""
    signed = read_root_file(root)
    folder = builder_keys(cache.expanduser() / "keys").roots
    mine = roots_in(folder)
    if signed.root.version > 1:
        newest_root(mine[-1], [signed], is_good_signature)
    else:
        newest_root(signed, [], is_good_signature)
        for path in folder.glob("root.*.json"):
            path.rename(path.with_suffix(".before"))
    (folder / f"root.{signed.root.version}.json").write_bytes(root_bytes(signed))
    _show_root(root, signed, as_json=as_json)


def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder of a bundle, or its .tar.")],
    key: Annotated[Path, typer.Option("--key", help="Private key of a signer.")],
    root: Annotated[list[Path] | None, typer.Option("--root", help="Trust root to add to the bundle.")] = None,
    as_json: Json = False,
) -> None:
    """Add one signature to a bundle that is built; the folder and the tar beside each other are both signed."""
    signed = sign_bundle(bundle, load_signing_key(key), [read_root_file(path) for path in root or ()])
    have, need = len(signed.signatures), signed.root.root.threshold
    if as_json:
        show_json({"digest": signed.digest, "signatures": have, "threshold": need})
    else:
        say(f"{bundle}: {have} of {need} signatures, digest {signed.digest}")


def _made(
    keys: list[Path],
    threshold: int,
    apt_keys: list[Path],
    valid_days: int,
    *,
    version: int,
    before: SignedRoot | None = None,
) -> SignedRoot:
    listed = [trust_key(name_of(path), load_verify_key(path)) for path in keys]
    blocks = [path.read_text() for path in apt_keys] or list(before.root.apt_keys if before else ())
    until = SystemClock().now() + timedelta(days=valid_days)
    return new_root(listed, threshold, blocks, expires_at=until, version=version)


def _write_root(path: Path, signed: SignedRoot, *, as_json: bool) -> None:
    path.write_bytes(root_bytes(signed))
    _show_root(path, signed, as_json=as_json)


def _show_root(path: Path, signed: SignedRoot, *, as_json: bool) -> None:
    root = signed.root
    have = {entry.key_id for entry in signed.signatures}
    if as_json:
        keys = [{"id": key.id, "name": key.name, "signed": key.id in have} for key in root.keys]
        facts = {"root": str(path), "version": root.version, "threshold": root.threshold, "digest": signed.digest}
        show_json({**facts, "expires_at": timestamp(root.expires_at), "keys": keys})
        return
    until = f"{root.expires_at:%Y-%m-%d}"
    say(f"{path}: trust root {root.version}, {root.threshold} of {len(root.keys)} keys, until {until}")
    for key in root.keys:
        say(f"  {key.id} {key.name}{'  has signed this root' if key.id in have else ''}")
