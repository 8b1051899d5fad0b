"""Preflight's words: a check, what it looks at, and its verdict."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal  # Any: facts are JSON

from controlplane.sitespec.spec import Node, Site

Severity = Literal["block", "warn"]
State = Literal["ok", "failed", "unknown", "skipped"]
CONTROL = "control host"


class Unread(Exception):
    """A fact that could not be read, with the reason."""


@dataclass(frozen=True)
class Facts:
    """Facts by name; asking for one that was not read raises Unread."""

    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        value = self.values.get(name, {"unread": "the node did not say"})
        if isinstance(value, dict) and "unread" in value:
            raise Unread(str(value["unread"]))
        return value

    def find(self, name: str, default: Any) -> Any:
        """Return a fact, or the default where it was not read."""
        try:
            return self[name]
        except Unread:
            return default


@dataclass(frozen=True)
class View:
    """What a check of one node may look at."""

    site: Site
    node: Node
    facts: Facts
    bundle: Facts
    now: float

    @property
    def has_gpus(self) -> bool:
        return bool(self.node.gpus)


@dataclass(frozen=True)
class Judgement:
    """How a fact stands against its limit."""

    ok: bool
    measured: str
    limit: str


@dataclass(frozen=True)
class Check:
    """One question to a node. `judge` answers None where the question makes no sense."""

    id: str
    severity: Severity
    remedy: str
    judge: Callable[[View], Judgement | None]
    in_practice: Severity | None = None  # where simulated nodes cannot be as real ones are


@dataclass(frozen=True)
class SiteCheck:
    """One question to all nodes together; judged per node that stands out."""

    id: str
    severity: Severity
    remedy: str
    judge: Callable[[tuple[View, ...]], Iterator[tuple[str, Judgement]]]


@dataclass(frozen=True)
class Verdict:
    """The answer to one check on one node."""

    id: str
    severity: Severity
    node: str
    state: State
    measured: str
    limit: str
    remedy: str
    reason: str = field(default="")

    @property
    def blocks(self) -> bool:
        return self.severity == "block" and self.state == "failed"


def judge_node(checks: tuple[Check, ...], view: View) -> Iterator[Verdict]:
    """Yield a verdict for every check that applies to a node."""
    for check in checks:
        severity = (check.in_practice or check.severity) if view.site.practice else check.severity
        try:
            found = check.judge(view)
        except Unread as error:
            yield Verdict(check.id, severity, view.node.name, "unknown", f"cannot be read: {error}", "", check.remedy)
        else:
            if found:
                state: State = "ok" if found.ok else "failed"
                yield Verdict(check.id, severity, view.node.name, state, found.measured, found.limit, check.remedy)


def judge_site(checks: tuple[SiteCheck, ...], views: tuple[View, ...]) -> Iterator[Verdict]:
    """Yield a verdict for every node that a check of the whole site speaks of, or one for the site when all is well."""
    for check in checks:
        found = tuple(check.judge(views))
        for node, judgement in found:
            state: State = "ok" if judgement.ok else "failed"
            yield Verdict(check.id, check.severity, node, state, judgement.measured, judgement.limit, check.remedy)
        if not found:
            yield Verdict(check.id, check.severity, "site", "ok", "nothing stands out", "", check.remedy)


def skip(verdicts: tuple[Verdict, ...], reasons: Mapping[str, str]) -> tuple[Verdict, ...]:
    """Return the verdicts with failed checks passed over where somebody gave a reason."""

    def passed_over(one: Verdict) -> Verdict:
        if one.state == "ok" or one.id not in reasons:
            return one
        return Verdict(one.id, one.severity, one.node, "skipped", one.measured, one.limit, one.remedy, reasons[one.id])

    return tuple(passed_over(one) for one in verdicts)


def listed(names: Any, *, none: str = "none") -> str:
    """Return names in one line; long lists say how many more there are."""
    found = [str(name) for name in names]
    if len(found) > 4:
        return f"{', '.join(found[:3])} and {len(found) - 3} more"
    return ", ".join(found) or none


def nothing(names: Any, *, limit: str = "none") -> Judgement:
    """Judge a list that ought to be empty."""
    return Judgement(not names, listed(names), limit)
