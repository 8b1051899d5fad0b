"""redoubt site prove: shows that nothing leaves the site and that only what is declared comes in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
import yaml

from controlplane.cli.playbook import Reach
from controlplane.cli.proof_check import Checked, check_proof
from controlplane.cli.proof_run import Ask, gather
from controlplane.cli.proof_table import node_rows, show_proof
from controlplane.cli.screen import Json, say, show_json
from controlplane.cli.site_options import Netns, Rendered, SpecFile, SshConfig, read_site, rendered_folder
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import Refused
from controlplane.sitespec.spec import Site

Out = Annotated[Path | None, typer.Option("--out", help="Where to write the proof; default: beside the inventory.")]
TrapOption = Annotated[
    str | None,
    typer.Option(
        "--trap", metavar="FILE|COMMAND", help="A recorder outside: the file it writes, or who speaks for it."
    ),
]
Outside = Annotated[
    str | None,
    typer.Option("--outside", metavar="COMMAND", help="Runs python3 outside the boundary, e.g. `ssh laptop`."),
]
EveryPort = Annotated[bool, typer.Option("--every-port", help="Knock at all 65535 TCP ports of every node.")]


def prove(
    spec: SpecFile,
    rendered: Rendered = None,
    ssh_config: SshConfig = None,
    netns: Netns = None,
    out: Out = None,
    trap: TrapOption = None,
    outside: Outside = None,
    every_port: EveryPort = False,
    as_json: Json = False,
) -> None:
    """Try to leave from every node as everybody, and to come in. Exit 0: isolated; 1: leaking, or not proven."""
    site, source = read_site(spec)
    folder = rendered_folder(spec, rendered)
    ask = Ask(
        site, sha256_hex(source.encode()), _bundle(site, folder), Reach(ssh_config, netns), trap, outside, every_port
    )
    proven = prove_site(ask, out or folder.parent / "proof.json")
    if as_json:
        show_json(outcome(proven))
    else:
        show_outcome(proven)
    refuse_unproven(proven)


@dataclass(frozen=True)
class Proven:
    """A proof that was just made and written."""

    checked: Checked
    path: Path


def prove_site(ask: Ask, path: Path) -> Proven:
    """Run a proof, write it and the authority's certificate beside it, and check it as anybody would."""
    clock = SystemClock()
    gathered = gather(ask, clock)
    path.write_bytes(gathered.data)
    path.with_suffix(".ca.crt").write_bytes(gathered.authority_pem)
    return Proven(check_proof(gathered.data, gathered.authority, now=clock.now(), most_age=None), path)


def prove_applied(site: Site, source: str, folder: Path, reach: Reach) -> Proven:
    """Prove a site that was just applied, with what every site has: no trap, and no place outside to knock from."""
    ask = Ask(site, sha256_hex(source.encode()), _bundle(site, folder), reach)
    return prove_site(ask, folder.parent / "proof.json")


def refuse_unproven(proven: Proven | None) -> None:
    """End with 1 unless the site is proven to be isolated; nothing was asked for is nothing to refuse."""
    if proven is not None and proven.checked.judgement.verdict != "isolated":
        raise typer.Exit(1)


def show_outcome(proven: Proven) -> None:
    """Show the table and the verdict."""
    path = proven.path
    show_proof(proven.checked.proof, proven.checked.parts)
    say(f"{path}: signed; check it anywhere: redoubt verify {path} --ca {path.with_suffix('.ca.crt')}")


def outcome(proven: Proven) -> dict[str, object]:
    """Return what a script wants to know of a proof."""
    checked, path = proven.checked, proven.path
    proof = checked.proof
    return {
        "site": proof.site, "run": proof.run, "verdict": proof.verdict, "reasons": list(proof.reasons),
        "contexts": [row.model_dump() for row in node_rows(checked.parts)],
        "packets_outside": None if proof.trap is None or not proof.trap.heard_canary else len(proof.trap.packets),
        "seconds": round((proof.ended_at - proof.started_at).total_seconds(), 1), "proof": str(path),
        "not_checked": list(checked.not_checked),
    }  # fmt: skip


def _bundle(site: Site, folder: Path) -> str:
    path = folder / "host_vars" / f"{site.services.depot}.yml"
    if not path.is_file():
        remedy = "name the folder: --rendered FOLDER, or make it: redoubt site render SITE.YML --bundle FOLDER"
        raise Refused(f"{folder} holds no inventory of {site.name}", remedy=remedy, code="not_rendered")
    return str(yaml.safe_load(path.read_text()).get("depot_bundle_digest", ""))
