"""GPU time by project, type, node or run, and requests of inference by what they were for."""

from collections.abc import Iterable, Mapping
from typing import assert_never

from controlplane.domains.fleet.rules import gpu_type
from controlplane.domains.metering.types import Requests, UsageOf, UsedTime
from controlplane.domains.scheduler.types import RequestsBy, UsageBy, UsageRow
from controlplane.domains.shares.types import Share, ShareKind


def group(used: Iterable[UsedTime], by: UsageBy, projects: Mapping[str, str]) -> tuple[UsageRow, ...]:
    """Add up, most first. An account that no share has (any more) counts under its own name."""
    found: dict[str, UsageRow] = {}
    for time in used:
        key = _key(time, by, projects)
        row = found.get(key, UsageRow(key, 0, 0, 0))
        found[key] = UsageRow(
            key, row.gpu_seconds + time.gpu_seconds, row.starts + time.starts, row.running + time.running
        )
    return tuple(sorted(found.values(), key=lambda row: (-row.gpu_seconds, row.key)))


def asked_of(by: RequestsBy) -> UsageOf:
    """Return what to add up by: a project and a team are found by the share of the key."""
    return UsageOf.SHARE if by in (RequestsBy.PROJECT, RequestsBy.TEAM) else UsageOf(by)


def group_requests(
    sums: Mapping[str, Requests], by: RequestsBy, shares: Mapping[str, Share]
) -> tuple[tuple[str, Requests], ...]:
    """Return the rows of a report: time in its order, all else the most tokens first."""
    found: dict[str, Requests] = {}
    for name, requests in sums.items():
        key = _request_key(name, by, shares.get(name))
        found[key] = found.get(key, Requests()) + requests
    if by in (RequestsBy.DAY, RequestsBy.HOUR):
        return tuple(sorted(found.items()))
    return tuple(sorted(found.items(), key=lambda row: (-row[1].tokens_in - row[1].tokens_out, row[0])))


def _request_key(name: str, by: RequestsBy, share: Share | None) -> str:
    match by:
        case RequestsBy.PROJECT:
            return (share.project if share is not None else "") or name
        case RequestsBy.TEAM:
            return name if share is not None and share.kind is ShareKind.TEAM else ""
        case _:
            return name


def _key(time: UsedTime, by: UsageBy, projects: Mapping[str, str]) -> str:
    match by:
        case UsageBy.PROJECT:
            return projects.get(time.account) or time.account
        case UsageBy.TYPE:
            is_card = " " in time.gpu_type  # the process engine tells the card's whole name
            return gpu_type(time.gpu_type) if is_card else time.gpu_type
        case UsageBy.NODE:
            return time.node
        case UsageBy.JOB:
            return time.name
        case _:
            assert_never(by)
