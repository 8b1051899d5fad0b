"""redoubt site: from `site.yml` to nodes that are what it says."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from controlplane.bundle.verify import Verified, inspect_bundle, verify_bundle
from controlplane.cli.playbook import Reach, RunRecord, failed_run, run_playbooks
from controlplane.cli.screen import Json, say, show_json
from controlplane.kit.crypto import load_verify_key
from controlplane.kit.errors import BadInput, Refused
from controlplane.sitespec.render import BundleFacts, render
from controlplane.sitespec.spec import Site, json_schema
from controlplane.sitespec.text import parse_site

app = typer.Typer(no_args_is_help=True, help="The site spec, and nodes that are what it says.")

DEFAULT_CACHE = Path("~/.cache/redoubt")

SpecFile = Annotated[Path, typer.Argument(metavar="SITE.YML", help="The site spec.")]
Rendered = Annotated[Path | None, typer.Option("--rendered", help="Rendered inventory; default: beside the spec.")]
Bundle = Annotated[Path, typer.Option("--bundle", help="The bundle: the folder that was built, or its .tar.")]
Key = Annotated[Path | None, typer.Option("--key", help="Public key the bundle must be signed with.")]
Cache = Annotated[Path, typer.Option("--cache", envvar="REDOUBT_CACHE", help="Cache; holds the builder's keys.")]
SshConfig = Annotated[Path | None, typer.Option("--ssh-config", help="ssh_config that reaches the nodes.")]
Netns = Annotated[str | None, typer.Option("--netns", help="Network namespace that the nodes live in.")]
Assets = Annotated[Path | None, typer.Option("--practice-assets", help="Folder with the simulated GPU library.")]
Stages = Annotated[list[str] | None, typer.Option("--stage", help="Run this stage alone; may be repeated.")]


@app.command()
def check(spec: SpecFile, as_json: Json = False) -> None:
    """Check a site spec without touching anything."""
    site, _ = _read(spec)
    facts = {"site": site.name, "nodes": len(site.nodes), "gpus": sum(g.count for n in site.nodes for g in n.gpus)}
    if as_json:
        show_json(facts)
    else:
        say(f"{spec}: site {site.name} is consistent: {facts['nodes']} nodes, {facts['gpus']} GPUs")


@app.command()
def schema() -> None:
    """Print the JSON Schema of site.yml, for editors."""
    show_json(json_schema())


@app.command("render")
def render_inventory(
    spec: SpecFile,
    bundle: Bundle,
    rendered: Rendered = None,
    key: Key = None,
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Write the inventory of a site; what it held before is gone."""
    site, source = _read(spec)
    carried = inspect_bundle(bundle, load_verify_key(_key(key, cache)))
    models = tuple(model.model_dump() for model in carried.manifest.models)
    files = render(site, BundleFacts(carried.digest, carried.manifest.apt_key, models), source=source)
    folder = rendered or spec.parent / "rendered"
    changed = _write(folder, files)
    if as_json:
        show_json({"rendered": str(folder), "files": len(files), "changed": changed, "bundle": carried.digest})
    else:
        say(f"{folder}: {len(files)} files, {changed} changed")


@app.command()
def plan(
    spec: SpecFile,
    bundle: Bundle,
    rendered: Rendered = None,
    key: Key = None,
    cache: Cache = DEFAULT_CACHE,
    ssh_config: SshConfig = None,
    netns: Netns = None,
    practice_assets: Assets = None,
    stage: Stages = None,
    as_json: Json = False,
) -> None:
    """Show what apply would change; nothing is changed."""
    site, _ = _read(spec)
    verify = inspect_bundle(_archive(bundle), load_verify_key(_key(key, cache)))
    inputs = _inputs(site, spec, bundle, practice_assets)
    record = _run(site, spec, rendered, verify, inputs, Reach(ssh_config, netns), stage, check=True)
    _show(site, record, as_json=as_json, verb="would change")


@app.command()
def apply(
    spec: SpecFile,
    bundle: Bundle,
    rendered: Rendered = None,
    key: Key = None,
    cache: Cache = DEFAULT_CACHE,
    ssh_config: SshConfig = None,
    netns: Netns = None,
    practice_assets: Assets = None,
    stage: Stages = None,
    as_json: Json = False,
) -> None:
    """Make the nodes what the spec says; a second time changes nothing."""
    site, _ = _read(spec)
    verified = verify_bundle(_archive(bundle), load_verify_key(_key(key, cache)))
    inputs = _inputs(site, spec, bundle, practice_assets)
    record = _run(site, spec, rendered, verified, inputs, Reach(ssh_config, netns), stage, check=False)
    _show(site, record, as_json=as_json, verb="changed")


def _read(spec: Path) -> tuple[Site, str]:
    try:
        text = spec.read_text()
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"{spec} is no site spec", remedy="start from inventory/example/site.yml") from None
    return parse_site(text, name=str(spec)), text


def _key(key: Path | None, cache: Path) -> Path:
    path = key or cache.expanduser() / "keys" / "bundle.pub"
    if not path.is_file():
        raise BadInput(f"{path} does not exist", remedy="name the key that signed the bundle: --key FILE")
    return path


def _archive(bundle: Path) -> Path:
    return bundle.with_name(f"{bundle.name}.tar") if bundle.is_dir() else bundle


def _inputs(site: Site, spec: Path, bundle: Path, practice_assets: Path | None) -> dict[str, str]:
    inputs = {"depot_bundle_archive": str(_archive(bundle).resolve()), "preflight_site": str(spec.resolve())}
    if not site.practice:
        return inputs
    if practice_assets is None or not (practice_assets / "libnvidia-ml.so.1").is_file():
        remedy = "name the folder with libnvidia-ml.so.1: --practice-assets FOLDER"
        raise BadInput(f"{site.name} is a practice site and its simulated GPU library is missing", remedy=remedy)
    return {**inputs, "practice_assets": str(practice_assets.resolve())}


def _run(
    site: Site,
    spec: Path,
    rendered: Path | None,
    bundle: Verified,
    inputs: dict[str, str],
    reach: Reach,
    stages: list[str] | None,
    *,
    check: bool,
) -> RunRecord:
    folder = rendered or spec.parent / "rendered"
    _refuse_other_bundle(site, spec, folder, bundle)
    names = ["preflight", *stages] if stages else ["site"]
    record = run_playbooks(names, folder / "hosts.yml", inputs, reach, check=check)
    if record.failures:
        raise failed_run(record, again=shlex.join(["redoubt", *sys.argv[1:]]))
    return record


def _refuse_other_bundle(site: Site, spec: Path, folder: Path, bundle: Verified) -> None:
    again = f"render it: redoubt site render {spec} --bundle FOLDER"
    path = folder / "host_vars" / f"{site.services.depot}.yml"
    if not path.is_file():
        raise Refused(f"{folder} holds no inventory of {site.name}", remedy=again, code="not_rendered")
    if yaml.safe_load(path.read_text()).get("depot_bundle_digest") != bundle.digest:
        raise Refused(f"{folder} was rendered for another bundle", remedy=again, code="other_bundle")


def _write(folder: Path, files: dict[str, str]) -> int:
    stale = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).as_posix() not in files]
    for path in stale:
        path.unlink()
    changed = len(stale)
    for name, text in files.items():
        path = folder / name
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            changed += 1
    return changed


def _show(site: Site, record: RunRecord, *, as_json: bool, verb: str) -> None:
    if as_json:
        show_json({"site": site.name, "changed": record.changed, **json.loads(record.model_dump_json())})
        return
    for host, tally in record.hosts.items():
        say(f"{host:<16} ok={tally.ok} changed={tally.changed} failed={tally.failed}")
    for change in record.changes:
        say(f"{verb}: {change.host}: {change.task}")
    say(f"site {site.name}: changed={record.changed} in {record.seconds:.0f} s")
