"""redoubt site check, schema, render: from `site.yml` to the inventory that the playbooks read."""

from pathlib import Path

from controlplane.bundle.verify import inspect_bundle
from controlplane.cli.bundle_trust import DEFAULT_CACHE, Accept, Cache, RootFile
from controlplane.cli.screen import Json, say, show_json
from controlplane.cli.site_options import (
    Bundle,
    Rendered,
    SpecFile,
    read_site,
    rendered_folder,
    require_cover,
    site_trust,
)
from controlplane.sitespec.render import BundleFacts, render
from controlplane.sitespec.spec import json_schema


def check(spec: SpecFile, as_json: Json = False) -> None:
    """Check a site spec without touching anything."""
    site, _ = read_site(spec)
    facts = {"site": site.name, "nodes": len(site.nodes), "gpus": sum(g.count for n in site.nodes for g in n.gpus)}
    if as_json:
        show_json(facts)
    else:
        say(f"{spec}: site {site.name} is consistent: {facts['nodes']} nodes, {facts['gpus']} GPUs")


def schema() -> None:
    """Print the JSON Schema of site.yml, for editors."""
    show_json(json_schema())


def render_inventory(
    spec: SpecFile,
    bundle: Bundle,
    rendered: Rendered = None,
    root: RootFile = None,
    accept: Accept = "",
    cache: Cache = DEFAULT_CACHE,
    as_json: Json = False,
) -> None:
    """Write the inventory of a site; what it held before is gone."""
    site, source = read_site(spec)
    carried = inspect_bundle(bundle, site_trust(root, cache, accept))
    require_cover(site, carried)
    models = tuple(model.model_dump() for model in carried.manifest.models)
    files = render(site, BundleFacts(carried.digest, carried.apt_key, models, carried.root_text), source=source)
    folder = rendered_folder(spec, rendered)
    changed = _write(folder, files)
    if as_json:
        show_json({"rendered": str(folder), "files": len(files), "changed": changed, "bundle": carried.digest})
    else:
        say(f"{folder}: {len(files)} files, {changed} changed")


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
