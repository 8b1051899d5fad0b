"""What the verbs of `redoubt site` are asked with: the spec, the bundle, and how the nodes are reached."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from controlplane.bundle.verify import PLATFORM, Trust, Verified
from controlplane.cli.bundle_trust import trust_of
from controlplane.kit.errors import BadInput
from controlplane.sitespec.needs import require_covered
from controlplane.sitespec.spec import Site
from controlplane.sitespec.text import parse_site

SpecFile = Annotated[Path, typer.Argument(metavar="SITE.YML", help="The site spec.")]
Rendered = Annotated[Path | None, typer.Option("--rendered", help="Rendered inventory; default: beside the spec.")]
Bundle = Annotated[Path, typer.Option("--bundle", help="The bundle: the folder that was built, or its .tar.")]
SshConfig = Annotated[Path | None, typer.Option("--ssh-config", help="ssh_config that reaches the nodes.")]
Netns = Annotated[str | None, typer.Option("--netns", help="Network namespace that the nodes live in.")]
Assets = Annotated[Path | None, typer.Option("--practice-assets", help="Folder with the simulated GPU library.")]
Stages = Annotated[list[str] | None, typer.Option("--stage", help="Run this stage alone; may be repeated.")]
Limit = Annotated[list[str] | None, typer.Option("--limit", help="Touch this node alone; may be repeated.")]
FirstStage = Annotated[str | None, typer.Option("--from-stage", help="Begin at this stage; earlier ones are left out.")]
Every = Annotated[bool, typer.Option("--all", help="Evaluate every task of every stage, unchanged or not.")]
Quick = Annotated[bool, typer.Option("--quick", help="Believe the stamps: look only at stages that are due.")]


def read_site(spec: Path) -> tuple[Site, str]:
    """Return the site and the text it was read from; raises BadInput."""
    try:
        text = spec.read_text()
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"{spec} is no site spec", remedy="start from inventory/example/site.yml") from None
    return parse_site(text, name=str(spec)), text


def site_trust(root: Path | None, cache: Path, accept: str) -> Trust:
    """Return what is trusted when nodes are touched: the bundle must be for what they run, too."""
    return replace(trust_of(root, cache, accept), platform=PLATFORM)


def require_cover(site: Site, bundle: Verified) -> None:
    """Raises Refused that names what the site wants and the bundle lacks."""
    models = {model.name for model in bundle.manifest.models}
    require_covered(site, bundle.manifest.features, models)


def rendered_folder(spec: Path, rendered: Path | None) -> Path:
    """Return the folder of the rendered inventory of a spec."""
    return rendered or spec.parent / "rendered"
