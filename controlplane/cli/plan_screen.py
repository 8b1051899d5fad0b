"""A plan as a person reads it at three in the morning: what, where, what stops, how long, and what to type next."""

from collections import Counter
from collections.abc import Iterator

from pydantic import BaseModel

from controlplane.cli.plan_document import Plan
from controlplane.cli.screen import say, show

MOST = 6  # tasks of a node that are named before the rest is counted


class NodeRow(BaseModel):
    """What would happen on one node."""

    node: str
    changes: int
    stages: tuple[str, ...]
    restarts: tuple[str, ...]
    drain: str


def show_plan(plan: Plan, again: str) -> None:
    """Print a plan; `again` is the command that applies it."""
    rows = [_row(plan, host) for host in sorted(plan.facts)]
    show(rows, [(name, name) for name in NodeRow.model_fields], as_json=False, empty="no node answered")
    for line in _lines(plan):
        say(line)
    say(f"digest    {plan.digest}")
    say(f"next      {again}" if plan.changes else "next      nothing: the site is as its spec says")


def _row(plan: Plan, host: str) -> NodeRow:
    mine = [change for change in plan.changes if change.host == host]
    drain = next((drain for drain in plan.drains if drain.node == host), None)
    return NodeRow(
        node=host,
        changes=len(mine),
        stages=tuple(dict.fromkeys(change.stage for change in mine)),
        restarts=tuple(one.unit.replace(".service", "") for one in plan.restarts if one.host == host),
        drain=f"{drain.gpus} GPUs" if drain else "",
    )


def _lines(plan: Plan) -> Iterator[str]:
    for host, count in Counter(change.host for change in plan.changes).items():
        tasks = [f"{change.stage}: {_short(change.task)}" for change in plan.changes if change.host == host]
        yield from (f"change    {host}: {task}" for task in tasks[:MOST])
        if count > MOST:
            yield f"change    {host}: and {count - MOST} more (all of them: --json)"
    for drain in plan.drains:
        jobs = f"jobs {', '.join(drain.jobs)} run there" if drain.jobs else "no job runs there now"
        yield f"drain     {drain.node}: {drain.gpus} GPUs, {jobs}: {'; '.join(drain.why)}"
    if plan.changes:
        yield f"time      about {plan.minutes:g} minutes, from {plan.minutes_from}"


def _short(task: str) -> str:
    """Return a task's sentence without its role and verb, for the stage says them."""
    return task.rpartition(" | ")[2].rpartition(" : ")[2]
