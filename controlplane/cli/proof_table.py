"""An isolation proof as a table: node and context, attempts, blocked, leaked; then one line with the verdict."""

from collections.abc import Mapping

from pydantic import BaseModel

from controlplane.cli.screen import say, show
from controlplane.contracts.proof import NodePart, SiteProof
from controlplane.domains.health.rules import tally

COLUMNS = [
    ("NODE", "node"), ("CONTEXT", "context"), ("UID", "uid"), ("ATTEMPTS", "attempts"), ("BLOCKED", "blocked"),
    ("LEAKED", "leaked"), ("", "note"),
]  # fmt: skip
MOST_REASONS = 12


class Row(BaseModel):
    """One context of one node."""

    node: str
    context: str
    uid: int
    attempts: int
    blocked: int
    leaked: int
    note: str


def node_rows(parts: Mapping[str, NodePart]) -> list[Row]:
    """Return a row a context."""
    return [
        Row(
            node=name, context=context.name, uid=context.uid, attempts=attempts, blocked=blocked, leaked=leaked,
            note=context.error,
        )
        for name, part in sorted(parts.items())
        for context in part.contexts
        for attempts, blocked, leaked in [tally(context)]
    ]  # fmt: skip


def show_proof(proof: SiteProof, parts: Mapping[str, NodePart]) -> None:
    """Print table, what was seen from outside, reasons and verdict."""
    show(node_rows(parts), COLUMNS, as_json=False, empty="no node gave a proof")
    for line in surroundings(proof):
        say(line)
    for reason in proof.reasons[:MOST_REASONS]:
        say(f"  - {reason}")
    if len(proof.reasons) > MOST_REASONS:
        say(f"  - and {len(proof.reasons) - MOST_REASONS} more; all with --json")
    say(verdict_line(proof, parts))


def surroundings(proof: SiteProof) -> list[str]:
    """Say what was seen from outside the nodes."""
    lines = [
        f"from the {vantage.name} ({vantage.address}): {sum(vantage.asked.values())} ports asked, "
        f"{len(vantage.answered)} answered" + (f"; {vantage.error}" if vantage.error else "")
        for vantage in proof.outside_in
    ]
    if proof.trap is None:
        return [*lines, "trap: none was given, so nobody watched from outside"]
    heard = f"{len(proof.trap.packets)} packets of the site" if proof.trap.heard_canary else "not observed"
    return [*lines, f"trap {proof.trap.recorder}: {heard}"]


def verdict_line(proof: SiteProof, parts: Mapping[str, NodePart]) -> str:
    """Return the verdict in one line."""
    contexts = [context for part in parts.values() for context in part.contexts]
    attempts = sum(tally(context)[0] for context in contexts)
    seconds = (proof.ended_at - proof.started_at).total_seconds()
    how = {"isolated": "nothing left it", "leaking": "something left it or came in", "inconclusive": "not proven"}
    return (
        f"{proof.site} is {proof.verdict}: {how[proof.verdict]}; {attempts} attempts as {len(contexts)} users and "
        f"processes on {len(parts)} of {len(proof.declared)} nodes in {seconds:.0f} s"
    )
