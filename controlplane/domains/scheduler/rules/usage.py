"""GPU time by project, type, node or run, and requests of inference by what they were for."""

from collections.abc import Iterable, Mapping
from typing import assert_never

from controlplane.domains.fleet.rules import gpu_type
from controlplane.domains.metering.types import After, Ranked, Requests, UsedTime
from controlplane.domains.scheduler.types import RequestsBy, UsageBy, UsageRow
from controlplane.domains.shares.types import Share, ShareKind
from controlplane.kit.errors import BadInput

LONGEST = 18  # digits of a sum that the database can hold


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


def of_shares(by: RequestsBy) -> bool:
    """Say whether it is found by the share of the key: of these there are as many as people made."""
    return by in (RequestsBy.PROJECT, RequestsBy.TEAM)


def group_requests(
    sums: Iterable[tuple[str, Requests]],
    by: RequestsBy,
    shares: Mapping[str, Share],
    *,
    limit: int,
    after: After | None,
) -> Ranked:
    """Add shares up by project or team, and return the first rows after one, most tokens first."""
    found: dict[str, Requests] = {}
    for name, requests in sums:
        key = _request_key(name, by, shares.get(name))
        found[key] = found.get(key, Requests()) + requests
    rows = sorted(found.items(), key=_rank_of)
    left = [row for row in rows if after is None or _rank_of(row) > (-after.tokens, after.key)]
    return Ranked(tuple(left[:limit]), max(0, len(left) - limit))


def cursor_after(ranked: Ranked) -> str | None:
    """Return where the rows after these begin."""
    if not ranked.more:
        return None
    tokens, key = _rank_of(ranked.rows[-1])
    return f"{-tokens}/{key}"


def read_after(cursor: str | None) -> After | None:
    """Read what `cursor_after` said. Raises BadInput."""
    if cursor is None:
        return None
    tokens, slash, key = cursor.partition("/")
    if not slash or not tokens.isdecimal() or len(tokens) > LONGEST:
        raise BadInput("the cursor is not one of ours", remedy="start again without a cursor")
    return After(int(tokens), key)


def _rank_of(row: tuple[str, Requests]) -> tuple[int, str]:
    key, requests = row
    return -requests.tokens_in - requests.tokens_out, key


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
