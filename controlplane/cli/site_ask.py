"""One asking of the site verbs that touch nodes: spec, rendered inventory, bundle and the way to the nodes."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any  # variables of playbooks have no narrower type

import yaml

from controlplane.bundle.verify import Verified
from controlplane.cli.journal import Journal
from controlplane.cli.plan_document import SHIPPED_S
from controlplane.cli.playbook import Reach, failed_run, run_playbooks
from controlplane.cli.run_record import RunRecord
from controlplane.cli.site_options import read_site, rendered_folder, require_cover
from controlplane.cli.stage_choice import Choice, stage_inputs, stage_inventory
from controlplane.cli.stages import PLAYBOOKS, tree_digest
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput, Refused
from controlplane.sitespec.spec import Site


@dataclass(frozen=True)
class Ask:
    """What a verb was asked with, once it is known to fit together."""

    site: Site
    spec: Path
    folder: Path
    bundle: Verified
    inputs: Mapping[str, str]
    reach: Reach
    words: Sequence[str] = ()
    open_files: Sequence[int] = field(default=())
    skipped_checks: Mapping[str, str] = field(default_factory=dict)

    @property
    def journal(self) -> Journal:
        """What is kept beside the inventory."""
        return Journal(self.folder)

    def input_digests(self) -> dict[str, str]:
        """Return the digests of everything that decides a run and does not lie on nodes."""
        assets = self.inputs.get("practice_assets")
        return {
            str(self.spec.name): sha256_hex(self.spec.read_bytes()),
            "rendered inventory": tree_digest(self.folder),
            "bundle": self.bundle.digest,
            "playbooks": tree_digest(PLAYBOOKS),
            "image sources": tree_digest(PLAYBOOKS.parent / "images"),
            **({"practice assets": tree_digest(Path(assets))} if assets else {}),
        }

    def run(self, choice: Choice, *, check: bool, more: Mapping[str, Any] | None = None) -> RunRecord:
        """Run the chosen stages; `more` are further variables."""
        added = stage_inventory(self.folder, self.inputs, self.bundle.digest, choice)
        given = {**self.inputs, **stage_inputs(choice), **(more or {})}
        names = {"Preflight", "Preflight of the nodes", *(stage.title for stage in choice.stages())}
        took = {**SHIPPED_S, **self.journal.stage_seconds(changing=False)}
        return run_playbooks(
            (*choice.playbooks(), *([] if check else ["finish"])),
            self.folder / "hosts.yml",
            given,
            self.reach,
            check=check,
            added=added,
            expected={name: took.get(name, 0.0) for name in names},
            words=self.words,
            open_files=self.open_files,
        )

    def facts(self, watched: Mapping[str, Sequence[str]]) -> RunRecord:
        """Read what every node is now, and nothing else."""
        given = {**self.inputs, **stage_inputs(Choice()), "stages_watched": watched, "preflight_reads": False}
        added = stage_inventory(self.folder, self.inputs, self.bundle.digest, Choice())
        return run_playbooks(
            ("preflight",), self.folder / "hosts.yml", given, self.reach, check=True, added=added, words=self.words
        )


def ask_of(
    spec: Path, bundle: Path, rendered: Path | None, verified: Verified, reach: Reach, assets: Path | None
) -> Ask:
    """Return an asking that fits together; raises BadInput or Refused where it does not."""
    site, _ = read_site(spec)
    folder = rendered_folder(spec, rendered)
    reason = {"depot_reason": verified.reason} if verified.reason else {}
    inputs = _inputs(site, spec, bundle, assets) | reason
    require_cover(site, verified)
    _refuse_other_bundle(site, spec, folder, verified)
    return Ask(site, spec, folder, verified, inputs, reach)


def archive_of(bundle: Path) -> Path:
    """Return the tar of a bundle that is named by its folder or by its tar."""
    return bundle.with_name(f"{bundle.name}.tar") if bundle.is_dir() else bundle


def this_command() -> str:
    """Return what was typed, to be repeated."""
    return shlex.join(["redoubt", *sys.argv[1:]])


def succeeded(record: RunRecord) -> RunRecord:
    """Return the record of a run in which nothing failed; raises what failed."""
    if record.failures:
        raise failed_run(record, again=this_command())
    return record


def _inputs(site: Site, spec: Path, bundle: Path, assets: Path | None) -> dict[str, str]:
    inputs = {"depot_bundle_archive": str(archive_of(bundle).resolve()), "preflight_site": str(spec.resolve())}
    if not site.practice:
        return inputs
    if assets is None or not (assets / "libnvidia-ml.so.1").is_file():
        remedy = "name the folder with libnvidia-ml.so.1: --practice-assets FOLDER"
        raise BadInput(f"{site.name} is a practice site and its simulated GPU library is missing", remedy=remedy)
    return {**inputs, "practice_assets": str(assets.resolve())}


def _refuse_other_bundle(site: Site, spec: Path, folder: Path, bundle: Verified) -> None:
    again = f"render it: redoubt site render {spec} --bundle FOLDER"
    path = folder / "host_vars" / f"{site.services.depot}.yml"
    if not path.is_file():
        raise Refused(f"{folder} holds no inventory of {site.name}", remedy=again, code="not_rendered")
    if yaml.safe_load(path.read_text()).get("depot_bundle_digest") != bundle.digest:
        raise Refused(f"{folder} was rendered for another bundle", remedy=again, code="other_bundle")
