"""Reservations, which the REST API v0.0.42 shows in part and cannot make: scontrol's words for them, both ways."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from controlplane.engines.scheduler import Reservation, ReservationKind
from controlplane.engines.slurm.accounting import OURS

FLAGS = {
    ReservationKind.MAINTENANCE: "MAINT,IGNORE_JOBS",
    # jobs of its accounts need not name it, and those of others that run there end in their time
    ReservationKind.GUARANTEED: "MAGNETIC,IGNORE_JOBS",
    ReservationKind.SPARE: "REPLACE_DOWN",
}
FOR_EVER = timedelta(days=365)  # what Slurm makes of UNLIMITED
TIME = "%Y-%m-%dT%H:%M:%S"
HOST_RANGE = re.compile(r"^(.*?)\[([0-9,-]+)\](.*)$")


def read_reservations(text: str) -> tuple[tuple[Reservation, ...], list[str]]:
    """Read `scontrol --oneliner show reservation`: ours, and others in words."""
    ours, foreign = [], []
    for line in text.splitlines():
        fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "ReservationName" not in fields:
            continue  # "No reservations in the system"
        if fields.get("Comment") == OURS:
            ours.append(_read(fields))
        else:
            nodes, flags = fields.get("Nodes", ""), fields.get("Flags", "")
            foreign.append(f"reservation {fields['ReservationName']}: {nodes}, {flags or 'no flags'}")
    return tuple(ours), foreign


def write_new(wanted: Reservation, now: datetime) -> tuple[str, ...]:
    """Return scontrol's words that make it."""
    return (
        "create",
        "reservation",
        f"ReservationName={wanted.name}",
        f"StartTime={'now' if wanted.starts_at <= now else wanted.starts_at.astimezone(UTC).strftime(TIME)}",
        _write_end(wanted),
        *_write_nodes(wanted),
        f"Accounts={','.join(wanted.accounts)}" if wanted.accounts else "Users=root",
        f"Flags={FLAGS[wanted.kind]}",
        f"Comment={OURS}",
    )


def write_change(wanted: Reservation, is_now: Reservation, now: datetime) -> tuple[str, ...]:
    """Return scontrol's words for what differs; one that began keeps its beginning."""
    words = []
    if wanted.starts_at > now and wanted.starts_at != is_now.starts_at:
        words.append(f"StartTime={wanted.starts_at.astimezone(UTC).strftime(TIME)}")
    if wanted.ends_at != is_now.ends_at:
        words.append(_write_end(wanted))
    if (wanted.nodes, wanted.node_count) != (is_now.nodes, is_now.node_count):
        words += _write_nodes(wanted)
    if wanted.accounts != is_now.accounts:
        words.append(f"Accounts={','.join(wanted.accounts)}")
    return ("update", "reservation", f"ReservationName={wanted.name}", *words)


def expand_hosts(text: str) -> Iterator[str]:
    """Yield gpu1, gpu2, gpu4 for "gpu[1-2,4]", as Slurm writes lists of nodes; leading zeros stay."""
    for part in re.split(r",(?![^\[]*\])", text):
        match = HOST_RANGE.match(part)
        if match is None:
            if part and part != "(null)":
                yield part
            continue
        before, ranges, after = match.groups()
        for one in ranges.split(","):
            first, _, last = one.partition("-")
            for number in range(int(first), int(last or first) + 1):
                yield from expand_hosts(f"{before}{number:0{len(first)}d}{after}")


def _read(fields: dict[str, str]) -> Reservation:
    flags = set(fields.get("Flags", "").split(","))
    starts_at, ends_at = (_time(fields[name]) for name in ("StartTime", "EndTime"))
    by_name, nodes = "SPEC_NODES" in flags, tuple(sorted(expand_hosts(fields["Nodes"])))
    return Reservation(
        fields["ReservationName"],
        _kind(flags),
        starts_at,
        None if ends_at - starts_at >= FOR_EVER else ends_at,
        nodes=nodes if by_name else (),
        node_count=0 if by_name else int(fields["NodeCnt"]),
        accounts=tuple(sorted(_words(fields.get("Accounts", "")))),
        chosen=() if by_name else nodes,
    )


def _kind(flags: set[str]) -> ReservationKind:
    if "MAINT" in flags:
        return ReservationKind.MAINTENANCE
    return ReservationKind.SPARE if flags & {"REPLACE_DOWN", "REPLACE"} else ReservationKind.GUARANTEED


def _time(text: str) -> datetime:
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)


def _words(text: str) -> list[str]:
    return [] if text in {"", "(null)"} else text.split(",")


def _write_end(wanted: Reservation) -> str:
    if wanted.ends_at is None:
        return "Duration=UNLIMITED"
    return f"EndTime={wanted.ends_at.astimezone(UTC).strftime(TIME)}"


def _write_nodes(wanted: Reservation) -> list[str]:
    return [f"Nodes={','.join(wanted.nodes)}"] if wanted.nodes else [f"NodeCnt={wanted.node_count}"]
