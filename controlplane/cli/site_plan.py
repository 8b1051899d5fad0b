"""redoubt site plan, apply: nodes that are what the spec says."""

import json
import shlex
import sys
from pathlib import Path

import yaml

from controlplane.bundle.verify import Verified, inspect_bundle, verify_bundle
from controlplane.cli.bundle_trust import DEFAULT_CACHE, Accept, Cache, RootFile
from controlplane.cli.playbook import Reach, RunRecord, failed_run, run_playbooks
from controlplane.cli.screen import Json, say, show_json
from controlplane.cli.site_options import (
    Assets,
    Bundle,
    Every,
    FirstStage,
    Netns,
    Quick,
    Rendered,
    SpecFile,
    SshConfig,
    Stages,
    read_site,
    rendered_folder,
    site_trust,
)
from controlplane.cli.stage_choice import Choice, stage_inputs, stage_inventory
from controlplane.kit.errors import BadInput, Refused
from controlplane.sitespec.spec import Site


def plan(
    spec: SpecFile,
    bundle: Bundle,
    rendered: Rendered = None,
    root: RootFile = None,
    accept: Accept = "",
    cache: Cache = DEFAULT_CACHE,
    ssh_config: SshConfig = None,
    netns: Netns = None,
    practice_assets: Assets = None,
    stage: Stages = None,
    from_stage: FirstStage = None,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Show what apply would change; nothing is changed."""
    site, _ = read_site(spec)
    verify = inspect_bundle(_archive(bundle), site_trust(root, cache, accept))
    inputs = _inputs(site, spec, bundle, practice_assets)
    record = _run(
        site,
        spec,
        rendered,
        verify,
        inputs,
        Reach(ssh_config, netns),
        Choice(tuple(stage or ()), from_stage, not quick),
        check=True,
    )
    _show(site, record, as_json=as_json, verb="would change")


def apply(
    spec: SpecFile,
    bundle: Bundle,
    rendered: Rendered = None,
    root: RootFile = None,
    accept: Accept = "",
    cache: Cache = DEFAULT_CACHE,
    ssh_config: SshConfig = None,
    netns: Netns = None,
    practice_assets: Assets = None,
    stage: Stages = None,
    from_stage: FirstStage = None,
    every: Every = False,
    as_json: Json = False,
) -> None:
    """Make the nodes what the spec says; a second time changes nothing."""
    site, _ = read_site(spec)
    verified = verify_bundle(_archive(bundle), site_trust(root, cache, accept))
    inputs = _inputs(site, spec, bundle, practice_assets)
    record = _run(
        site,
        spec,
        rendered,
        verified,
        inputs,
        Reach(ssh_config, netns),
        Choice(tuple(stage or ()), from_stage, every),
        check=False,
    )
    _show(site, record, as_json=as_json, verb="changed")


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
    choice: Choice,
    *,
    check: bool,
) -> RunRecord:
    folder = rendered_folder(spec, rendered)
    _refuse_other_bundle(site, spec, folder, bundle)
    added = stage_inventory(folder, inputs, bundle.digest, choice)
    given = {**inputs, **stage_inputs(choice)}
    record = run_playbooks(choice.playbooks(), folder / "hosts.yml", given, reach, check=check, added=added)
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


def _show(site: Site, record: RunRecord, *, as_json: bool, verb: str) -> None:
    if as_json:
        show_json({"site": site.name, "changed": record.changed, **json.loads(record.model_dump_json())})
        return
    for host, tally in record.hosts.items():
        say(f"{host:<16} ok={tally.ok} changed={tally.changed} failed={tally.failed}")
    for change in record.changes:
        say(f"{verb}: {change.host}: {change.task}")
    say(f"site {site.name}: changed={record.changed} in {record.seconds:.0f} s")
