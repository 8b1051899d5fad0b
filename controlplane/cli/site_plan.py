"""redoubt site plan: what apply would do, without doing it."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from controlplane.bundle.verify import inspect_bundle
from controlplane.cli.bundle_trust import DEFAULT_CACHE, Accept, Cache, RootFile
from controlplane.cli.journal import Journal
from controlplane.cli.plan_document import Plan, digest_of, make_plan
from controlplane.cli.plan_screen import show_plan
from controlplane.cli.playbook import Reach
from controlplane.cli.screen import Json, say, show_json
from controlplane.cli.site_ask import Ask, archive_of, ask_of, succeeded
from controlplane.cli.site_options import (
    Assets,
    Bundle,
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
from controlplane.cli.stage_choice import Choice
from controlplane.kit.clock import SystemClock
from controlplane.kit.errors import BadInput, Refused

Out = Annotated[Path | None, typer.Option("--out", help="Keep the plan in this file too.")]
Diff = Annotated[bool, typer.Option("--diff", help="Show on standard error what each file would lose and gain.")]


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
    limit: Limit = None,
    quick: Quick = False,
    diff: Diff = False,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Show what apply would change, restart and drain, how long it takes, and a digest to apply it by."""
    verified = inspect_bundle(archive_of(bundle), site_trust(root, cache, accept))
    ask = ask_of(spec, bundle, rendered, verified, Reach(ssh_config, netns), practice_assets)
    words = [*(["--diff"] if diff else []), *limit_words(ask, limit)]
    made = planned(replace(ask, words=words), Choice(tuple(stage or ()), from_stage, every=not quick, quick=quick))
    if out:
        out.write_text(made.model_dump_json(indent=1))
    _show(made, out, as_json=as_json)


def planned(ask: Ask, choice: Choice) -> Plan:
    """Run everything in check mode, and keep what that shows beside the inventory."""
    before = ask.input_digests()
    record = succeeded(ask.run(choice, check=True))
    took = ask.journal.stage_seconds(changing=True)
    made = make_plan(ask.site, record, before, choice.words(), took, SystemClock().now())
    ask.journal.keep_plan(made.digest, made.model_dump_json(indent=1))
    return made


def kept_plan(journal: Journal, named: str) -> Plan:
    """Return the plan of a file, or of a digest that was planned here; raises Refused for one that was altered."""
    again = "make one: redoubt site plan SITE.YML --bundle BUNDLE"
    found = [Path(named)] if Path(named).is_file() else sorted(journal.plans.glob(f"{named}*.json"))
    if len(found) != 1 or not named:
        raise BadInput(f"{named} is no plan file, and no digest of one plan that was made here", remedy=again)
    try:
        kept = Plan.model_validate_json(found[0].read_bytes())
    except ValidationError as error:
        raise BadInput(f"{found[0]} is no plan: {error.errors()[0]['msg']}", remedy=again) from None
    if digest_of(kept) != kept.digest:
        raise Refused(
            f"{found[0]} was altered: its digest is not that of its content", remedy=again, code="plan_altered"
        )
    return kept


def limit_words(ask: Ask, limit: list[str] | None) -> list[str]:
    """Return the words that keep Ansible to some nodes; raises BadInput for a name that is none."""
    names = [node.name for node in ask.site.nodes]
    for name in limit or []:
        if name not in names:
            raise BadInput(f"no node is called {name}", remedy=f"name one of: {', '.join(names)}")
    return ["--limit", ",".join([*limit, "localhost"])] if limit else []


def _show(made: Plan, out: Path | None, *, as_json: bool) -> None:
    if as_json:
        show_json({**made.model_dump(mode="json"), "changed": len(made.changes)})
        return
    show_plan(made, _apply_words(str(out) if out else made.digest[:16]))
    if out:
        say(f"kept      {out}")


def _apply_words(plan: str) -> str:
    """Return the command that applies a plan that was asked for with this one."""
    words, skip = [], False
    for word in sys.argv[1:]:
        if skip or word in ("--diff", "--quick", "--json"):
            skip = False
        elif word in ("--out", "--stage", "--from-stage"):
            skip = True
        else:
            words.append("apply" if word == "plan" and "apply" not in words else word)
    return shlex.join(["redoubt", *words, "--plan", plan])
