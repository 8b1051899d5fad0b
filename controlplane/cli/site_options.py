"""What the verbs of `redoubt site` are asked with: the spec, the bundle, and how the nodes are reached."""

from pathlib import Path
from typing import Annotated

import typer

from controlplane.kit.errors import BadInput
from controlplane.sitespec.spec import Site
from controlplane.sitespec.text import parse_site

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


def read_site(spec: Path) -> tuple[Site, str]:
    """Return the site and the text it was read from; raises BadInput."""
    try:
        text = spec.read_text()
    except (FileNotFoundError, IsADirectoryError):
        raise BadInput(f"{spec} is no site spec", remedy="start from inventory/example/site.yml") from None
    return parse_site(text, name=str(spec)), text


def key_file(key: Path | None, cache: Path) -> Path:
    """Return the public key that bundles must be signed with; raises BadInput when there is none."""
    path = key or cache.expanduser() / "keys" / "bundle.pub"
    if not path.is_file():
        raise BadInput(f"{path} does not exist", remedy="name the key that signed the bundle: --key FILE")
    return path


def rendered_folder(spec: Path, rendered: Path | None) -> Path:
    """Return the folder of the rendered inventory of a spec."""
    return rendered or spec.parent / "rendered"
