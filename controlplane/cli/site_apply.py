"""redoubt site apply: nodes that are what the spec says."""

import json
from dataclasses import replace
from typing import Annotated

import typer

from controlplane.bundle.verify import verify_bundle
from controlplane.cli.bundle_trust import DEFAULT_CACHE, Accept, Cache, RootFile
from controlplane.cli.journal import Run, finished, whose
from controlplane.cli.plan_document import Plan, moved, stages_to_visit
from controlplane.cli.plan_screen import show_plan
from controlplane.cli.playbook import Reach
from controlplane.cli.run_record import RunRecord
from controlplane.cli.screen import Json, say, show_json
from controlplane.cli.site_ask import Ask, archive_of, ask_of, succeeded, this_command
from controlplane.cli.site_options import (
    Assets,
    Bundle,
    Every,
    FirstStage,
    Limit,
    Netns,
    Quick,
    Rendered,
    SpecFile,
    SshConfig,
    Stages,
    site_trust,
)
from controlplane.cli.site_plan import kept_plan, limit_words, planned
from controlplane.cli.site_preflight import SkipChecks, skip_inputs, skipped_checks
from controlplane.cli.site_prove import Proven, outcome, prove_applied, refuse_unproven, show_outcome
from controlplane.cli.stage_choice import Choice
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput, RedoubtError, Refused
from controlplane.sitespec.preflight.judge import REACHABLE

ByPlan = Annotated[str, typer.Option("--plan", metavar="DIGEST|FILE", help="Do what this plan showed, or refuse.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only plan: the same as redoubt site plan.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Finish the other nodes when one fails or is silent.")]


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
    limit: Limit = None,
    every: Every = False,
    quick: Quick = False,
    by_plan: ByPlan = "",
    keep_going: KeepGoing = False,
    dry_run: DryRun = False,
    skip_check: SkipChecks = None,
    as_json: Json = False,
) -> None:
    """Make the nodes what the spec says and prove their boundary; stages that are as they were left are skipped."""
    verified = verify_bundle(archive_of(bundle), site_trust(root, cache, accept))
    reach = Reach(ssh_config, netns, keep_going=keep_going)
    ask = ask_of(spec, bundle, rendered, verified, reach, practice_assets)
    ask = replace(ask, words=limit_words(ask, limit), skipped_checks=_passed_over(skip_check, keep_going=keep_going))
    choice = Choice(tuple(stage or ()), from_stage, every=every or dry_run, quick=quick)
    if dry_run:
        made = planned(ask, choice)
        show_json(made.model_dump(mode="json")) if as_json else show_plan(
            made, this_command().replace(" --dry-run", "")
        )
        return
    with ask.journal.lock() as held:
        record = _applied(replace(ask, open_files=(held,)), choice, by_plan)
        whole = not (stage or from_stage or limit)
        proven = prove_applied(ask.site, ask.spec.read_text(), ask.folder, reach) if whole else None
    _show(ask, record, proven, as_json=as_json)
    refuse_unproven(proven)


def _passed_over(skips: SkipChecks, *, keep_going: bool) -> dict[str, str]:
    """Return the checks that may fail: who goes on without a silent node has said so already."""
    return ({REACHABLE: "--keep-going"} if keep_going else {}) | skipped_checks(skips)


def _applied(ask: Ask, choice: Choice, named: str) -> RunRecord:
    """Run, and keep a record of it from before the first task on."""
    plan = kept_plan(ask.journal, named) if named else None
    if plan:
        choice = _as_planned(ask, choice, plan)
    run = _begun(ask, plan)
    ask.journal.keep(run)
    try:
        more = {"stages_run": _signature(ask, run), **skip_inputs(run.skipped_checks)}
        record = ask.run(choice, check=False, more=more)
    except RedoubtError as error:
        ask.journal.keep(run.model_copy(update={"outcome": error.code, "ended_at": SystemClock().now()}))
        raise
    ask.journal.keep(finished(run, record, at=SystemClock().now()))
    return succeeded(record)


def _as_planned(ask: Ask, choice: Choice, plan: Plan) -> Choice:
    """Return the plan's own choice of stages; raises Refused when anything moved since it was made."""
    if choice != Choice():
        raise BadInput("a plan says itself which stages it is for", remedy="leave out --stage, --from-stage and --all")
    now = succeeded(ask.facts({host: sorted(files) for host, files in plan.states.items()}))
    found = moved(plan, ask.input_digests(), now.facts)
    if found:
        raise Refused(
            f"the plan no longer holds: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""),
            remedy="plan again, look at it, and apply that: redoubt site plan …",
            code="plan_moved",
            reasons=found,
        )
    own = Choice.of(plan.choice)
    return replace(own, every=False, also=stages_to_visit(plan, own.stages()))


def _signature(ask: Ask, run: Run) -> dict[str, str]:
    """Return what the lock on the authority's node says; one place may repeat its own runs."""
    return {"id": run.id, "by": run.by, "place": f"{run.by}:{ask.journal.folder}"}


def _begun(ask: Ask, plan: Plan | None) -> Run:
    now = SystemClock().now()
    return Run(
        id=f"run-{now:%Y%m%dT%H%M%S%f}",
        site=ask.site.name,
        by=whose(),
        started_at=now,
        plan=plan.digest if plan else "",
        bundle=ask.bundle.digest,
        skipped_checks=dict(ask.skipped_checks),
    )


def _show(ask: Ask, record: RunRecord, proven: Proven | None, *, as_json: bool) -> None:
    if as_json:
        facts = json.loads(record.model_dump_json(exclude={"facts", "states"}))
        proof = {"proof": outcome(proven)} if proven else {}
        show_json({"site": ask.site.name, "changed": record.changed, **facts, **proof})
        return
    for host, tally in record.hosts.items():
        say(f"{host:<16} ok={tally.ok} changed={tally.changed} failed={tally.failed}")
    for change in record.changes:
        say(f"changed: {change.host}: {change.task}")
    say(f"site {ask.site.name}: changed={record.changed} in {record.seconds:.0f} s")
    if proven is not None:
        show_outcome(proven)
