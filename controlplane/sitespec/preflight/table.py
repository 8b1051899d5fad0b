"""Verdicts for a reader at three in the morning: blocks first, then warnings; what is well is a number."""

from collections.abc import Iterator
from dataclasses import dataclass

from controlplane.sitespec.preflight.check import Verdict

ORDER = ("block", "warning", "unknown", "skipped", "ok")


@dataclass(frozen=True)
class Row:
    """Verdicts of one check that say the same, on one line."""

    kind: str
    id: str
    nodes: tuple[str, ...]
    measured: str
    limit: str
    remedy: str
    stops: bool

    @property
    def where(self) -> str:
        """Return the nodes, many of them shortened."""
        if len(self.nodes) > 3:
            return f"{self.nodes[0]}, {self.nodes[1]} and {len(self.nodes) - 2} more"
        return ", ".join(self.nodes)


def rows(verdicts: tuple[Verdict, ...]) -> tuple[Row, ...]:
    """Return one row for each check and finding, the worst first."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    remedies = {one.id: one.remedy for one in verdicts}
    stopping = {one.id for one in verdicts if one.severity == "block" and one.state == "unknown"}
    for one in verdicts:
        measured = f"{one.measured} (passed over: {one.reason})" if one.state == "skipped" else one.measured
        groups.setdefault((_kind(one), one.id, measured, one.limit), []).append(one.node)
    found = [
        Row(kind, check, tuple(nodes), measured, limit, remedies[check], kind == "unknown" and check in stopping)
        for (kind, check, measured, limit), nodes in groups.items()
    ]
    return tuple(sorted(found, key=lambda row: ORDER.index(row.kind)))


def counts(verdicts: tuple[Verdict, ...]) -> dict[str, int]:
    """Return how many verdicts there are of each kind."""
    return {kind: sum(_kind(one) == kind for one in verdicts) for kind in ORDER}


def summary(verdicts: tuple[Verdict, ...]) -> str:
    """Return the outcome in one line: every block, or that there is none."""
    blocks = [row for row in rows(verdicts) if row.kind == "block"]
    if not blocks:
        return "preflight: nothing blocks"
    told = "; ".join(f"{row.id} on {row.where}: {row.measured}" for row in blocks)
    return f"preflight: {len(blocks)} check{'s' if len(blocks) > 1 else ''} block: {told}. First: {blocks[0].remedy}"


def lines(verdicts: tuple[Verdict, ...], *, everything: bool) -> Iterator[str]:
    """Yield the table: what is wrong with its remedy below, then what is well."""
    shown = [row for row in rows(verdicts) if everything or row.kind in {"block", "warning", "skipped"} or row.stops]
    widths = [max((len(row.id) for row in shown), default=0), max((len(row.where) for row in shown), default=0)]
    for row in shown:
        limit = f"  (wanted: {row.limit})" if row.limit and row.kind != "ok" else ""
        kind = "BLOCK" if row.kind == "block" else row.kind
        yield f"{kind:<8} {row.id:<{widths[0]}}  {row.where:<{widths[1]}}  {row.measured}{limit}"
        if row.kind in {"block", "warning"}:
            yield f"{'':8} {'':<{widths[0]}}  -> {row.remedy}"
    found = counts(verdicts)
    told = ", ".join(f"{found[kind]} {kind}" for kind in ORDER if found[kind] and kind != "ok")
    yield f"{found['ok']} ok{', ' + told if told else ''}{'' if everything else '; --all shows everything'}"


def _kind(one: Verdict) -> str:
    if one.state == "failed":
        return "block" if one.severity == "block" else "warning"
    return one.state
