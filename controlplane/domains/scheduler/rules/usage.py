"""GPU time by project, type, node or run."""

from collections.abc import Iterable, Mapping
from typing import assert_never

from controlplane.domains.fleet.rules import gpu_type
from controlplane.domains.metering.types import UsedTime
from controlplane.domains.scheduler.types import UsageBy, UsageRow


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
