"""redoubt site preflight: everything that can be known before a site is touched, in one table."""

import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from controlplane.bundle.verify import inspect_bundle
from controlplane.cli.bundle_trust import DEFAULT_CACHE, Accept, Cache, RootFile
from controlplane.cli.playbook import Reach, failed_run, run_playbooks
from controlplane.cli.screen import Json, say, show_json
from controlplane.cli.site_options import Netns, Rendered, SpecFile, SshConfig, read_site, rendered_folder, site_trust
from controlplane.kit.errors import BadInput, Refused
from controlplane.sitespec.preflight.check import Verdict
from controlplane.sitespec.preflight.judge import IDS
from controlplane.sitespec.preflight.table import counts, lines, rows

SkipChecks = Annotated[
    list[str] | None, typer.Option("--skip-check", metavar="ID=REASON", help="Pass over a check; kept in the record.")
]
GivenBundle = Annotated[Path | None, typer.Option("--bundle", help="The bundle that would be applied.")]
Everything = Annotated[bool, typer.Option("--all", help="Show what is well, too.")]


def preflight(
    spec: SpecFile,
    bundle: GivenBundle = None,
    rendered: Rendered = None,
    root: RootFile = None,
    accept: Accept = "",
    cache: Cache = DEFAULT_CACHE,
    ssh_config: SshConfig = None,
    netns: Netns = None,
    skip_check: SkipChecks = None,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """Ask control host and nodes everything that would stop an install; change nothing."""
    read_site(spec)
    folder = rendered_folder(spec, rendered)
    if not (folder / "hosts.yml").is_file():
        again = f"render it: redoubt site render {spec} --bundle FOLDER"
        raise Refused(f"{folder} holds no inventory", remedy=again, code="not_rendered")
    inputs = {"preflight_site": str(spec.resolve()), "preflight_only": True, **skip_inputs(skipped_checks(skip_check))}
    if bundle:
        archive = bundle.with_name(f"{bundle.name}.tar") if bundle.is_dir() else bundle
        digest = inspect_bundle(archive, site_trust(root, cache, accept)).digest
        inputs |= {"depot_bundle_archive": str(archive.resolve()), "preflight_bundle_digest": digest}
    with tempfile.TemporaryDirectory(prefix="redoubt-preflight-") as scratch:
        record = Path(scratch) / "verdicts.json"
        run = run_playbooks(
            ["preflight"],
            folder / "hosts.yml",
            {**inputs, "preflight_record": str(record)},
            Reach(ssh_config, netns),
            check=False,
        )
        if not record.is_file():
            raise failed_run(run, again=shlex.join(["redoubt", *sys.argv[1:]]))
        verdicts = tuple(Verdict(**one) for one in json.loads(record.read_text()))
    _show(verdicts, run.seconds, everything=everything, as_json=as_json)


def skipped_checks(skips: Sequence[str] | None) -> dict[str, str]:
    """Return the reasons of checks to pass over; raises BadInput for an unknown id and for a missing reason."""
    reasons = {}
    for one in skips or ():
        check, _, reason = one.partition("=")
        if check not in IDS:
            near = get_close_matches(check, IDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "redoubt site preflight --all shows every id"
            raise BadInput(f"no check is called {check}", remedy=hint)
        if not reason.strip():
            raise BadInput(f"{check} is passed over without a reason", remedy=f'say why: --skip-check "{check}=REASON"')
        reasons[check] = reason.strip()
    return reasons


def skip_inputs(reasons: Mapping[str, str]) -> dict[str, str]:
    """Return the input that tells the verdict which checks to pass over."""
    return {"preflight_skips": json.dumps(dict(reasons))} if reasons else {}


def _show(verdicts: tuple[Verdict, ...], seconds: float, *, everything: bool, as_json: bool) -> None:
    if as_json:
        show_json({"counts": counts(verdicts), "seconds": seconds, "checks": [asdict(one) for one in verdicts]})
    else:
        for line in lines(verdicts, everything=everything):
            say(line)
    blocks = [row for row in rows(verdicts) if row.kind == "block"]
    if blocks:
        reasons = tuple(f"{row.id} on {row.where}: {row.measured}; next: {row.remedy}" for row in blocks)
        detail = f"{len(blocks)} check{'s' if len(blocks) > 1 else ''} of preflight block"
        raise Refused(detail, remedy=blocks[0].remedy, code="preflight_blocks", reasons=reasons if as_json else ())
