"""redoubt verify: whether an isolation proof holds, on any machine that has the site's CA certificate."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from cryptography.x509 import Certificate

from controlplane.cli.proof_check import Checked, check_proof, check_spec
from controlplane.cli.proof_page import page
from controlplane.cli.proof_table import node_rows, show_proof
from controlplane.cli.screen import Json, say, show_json
from controlplane.kit.certificates import load_authority
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput
from controlplane.sitespec.text import parse_site

ProofFile = Annotated[Path, typer.Argument(metavar="PROOF", help="The file that `redoubt site prove` wrote.")]
Authority = Annotated[Path, typer.Option("--ca", help="Certificate of the site's authority.")]
SpecFile = Annotated[Path | None, typer.Option("--site", help="Site spec; the proof must be of it.")]
MaxAge = Annotated[float, typer.Option("--max-age-hours", min=0, help="Refuse older ones; 0 takes any age.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write a page that can be read and printed.")]


def verify(
    proof: ProofFile,
    ca: Authority,
    site: SpecFile = None,
    max_age_hours: MaxAge = 24,
    html: HtmlFile = None,
    as_json: Json = False,
) -> None:
    """Check a proof offline. Exit 0: isolated. 1: genuine, and not isolated. 2: no proof. 3: not to be trusted."""
    most_age = timedelta(hours=max_age_hours) if max_age_hours else None
    data = _read(proof, "a proof")
    checked = check_proof(data, _authority(ca), now=SystemClock().now(), most_age=most_age)
    if site is not None:
        source = _read(site, "a site spec").decode()
        check_spec(checked, parse_site(source, name=str(site)), source)
    if html is not None:
        html.write_text(page(checked))
    _show(checked, as_json=as_json, html=html)
    if checked.judgement.verdict != "isolated":
        raise typer.Exit(1)


def _show(checked: Checked, *, as_json: bool, html: Path | None) -> None:
    proof = checked.proof
    if as_json:
        rows = [row.model_dump() for row in node_rows(checked.parts)]
        facts = {"site": proof.site, "run": proof.run, "ended_at": proof.ended_at.isoformat(), "contexts": rows}
        verdict = {"verified": True, "verdict": proof.verdict, "reasons": list(proof.reasons)}
        show_json({**facts, **verdict, "not_checked": list(checked.not_checked)})
        return
    show_proof(proof, checked.parts)
    say("Not checked:")
    for gap in checked.not_checked:
        say(f"  - {gap}")
    if html is not None:
        say(f"{html}: the same to read and print")


def _authority(path: Path) -> Certificate:
    try:
        return load_authority(_read(path, "a certificate"))
    except ValueError as wrong:
        raise BadInput(f"{path}: {wrong}", remedy="name the site's CA certificate: --ca site-ca.crt") from None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as wrong:
        raise BadInput(f"{path} is not {what}: {wrong.strerror}", remedy="correct the path") from None
