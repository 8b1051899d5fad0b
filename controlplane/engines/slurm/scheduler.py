"""Shares, limits, reservations and usage in Slurm's accounting: read over REST, written with Slurm's own commands.

Its REST API v0.0.42 makes no reservation, and its POST takes no limit away; sacctmgr and scontrol do both.
"""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any  # Slurm's answers are JSON; what we read of them is checked where it is read

from controlplane.engines.scheduler import Hand, Reservation, SchedulerState, UsedGpus
from controlplane.engines.slurm import v0_0_42
from controlplane.engines.slurm.accounting import read_accounts, read_qos, read_used
from controlplane.engines.slurm.changes import Change, change_accounts, change_qos, remove_accounts, remove_qos
from controlplane.engines.slurm.commands import Commands
from controlplane.engines.slurm.engine import find_version
from controlplane.engines.slurm.reservations import TIME, read_reservations, write_change, write_new
from controlplane.engines.slurm.rest import SlurmRest
from controlplane.kit.errors import Unavailable

VERSIONS = (v0_0_42.VERSION,)
SACCTMGR = {"accounts": "account", "associations": "assoc", "qos": "qos"}


class SlurmScheduler:
    """`now` is the time by which a reservation has begun. slurmrestd is asked first, and not waited for long."""

    def __init__(self, rest: SlurmRest, commands: Commands, *, now: Callable[[], datetime]) -> None:
        self._rest = rest
        self._commands = commands
        self._now = now
        self._version = ""

    async def read_state(self) -> SchedulerState:
        """Return what Slurm has now. Raises Unavailable when neither REST nor the commands answer."""
        accounts, associations, classes, shown = await asyncio.gather(
            self._ask("accounts"),
            self._ask("associations"),
            self._ask("qos"),
            self._commands.run("scontrol", "--oneliner", "show", "reservation"),
        )
        ours, foreign = read_accounts(accounts, associations, overseer=self._rest.tokens.overseer)
        qos, foreign_qos = read_qos(classes)
        reservations, foreign_reservations = read_reservations(shown)
        return SchedulerState(ours, qos, reservations, (*foreign, *foreign_qos, *foreign_reservations))

    async def make_so(self, wanted: SchedulerState, observed: SchedulerState) -> tuple[str, ...]:
        """Change what is ours from `observed` to `wanted`; raises Unavailable with a reason for each that failed.

        What slurmdbd took right after its start may be lost again: whoever asks reads the state afterwards.
        """
        told: list[str] = []
        failed: list[str] = []
        for change in _changes(wanted, observed):
            await self._do("sacctmgr", ("--immediate", *change.words), change, told, failed)
        for words, what in _reservation_changes(wanted.reservations, observed.reservations, self._now()):
            await self._do("scontrol", words, Change(words, what), told, failed)
        if failed:
            raise Unavailable(
                f"Slurm did not take {len(failed)} of {len(failed) + len(told)} changes",
                remedy="redoubt scheduler drift shows what is not as it should be; this is tried again",
                reasons=tuple(failed),
            )
        return tuple(told)

    async def list_used(self, since: datetime) -> tuple[UsedGpus, ...]:
        """Return every start that was alive after `since`, each start of a requeued job by itself."""
        seconds = str(int(since.timestamp()))
        flags = {"show_duplicates": "true", "skip_steps": "true", "disable_truncate_usage_time": "true"}
        try:
            version = await self._spoken()
            answer = await self._rest.call("GET", f"/slurmdb/{version}/jobs/", query={"start_time": seconds, **flags})
        except Unavailable:
            self._version = ""
            start = since.astimezone(UTC).strftime(TIME)
            answer = await self._commands.read_json("sacct", "--allusers", "--duplicates", "-X", "--starttime", start)
        return tuple(read_used(answer["jobs"]))

    async def list_hands(self, since: datetime) -> tuple[Hand, ...]:
        """Return what others changed in the accounting; Slurm keeps no such list of reservations."""
        words = ("--noheader", "--parsable2", "list", "transactions", f"Start={since.astimezone(UTC).strftime(TIME)}")
        text = await self._commands.run("sacctmgr", *words, "Format=Time,Actor,Action,Where,Info")
        rows = [line.split("|", 2) for line in text.splitlines()]
        return tuple(
            Hand(datetime.strptime(at, TIME).replace(tzinfo=UTC), who, what.replace("|", " "))
            for at, who, what in (row for row in rows if len(row) == 3)
            if who != self._rest.tokens.overseer
        )

    async def _ask(self, noun: str) -> list[dict[str, Any]]:
        try:
            answer = await self._rest.call("GET", f"/slurmdb/{await self._spoken()}/{noun}/")
        except Unavailable:
            self._version = ""
            answer = await self._commands.read_json("sacctmgr", "show", SACCTMGR[noun])
        return list(answer[noun])

    async def _spoken(self) -> str:
        if not self._version:
            self._version = await find_version(self._rest, "slurmdb", VERSIONS)
        return self._version

    async def _do(
        self, program: str, words: tuple[str, ...], change: Change, told: list[str], failed: list[str]
    ) -> None:
        try:
            await self._commands.run(program, *words)
        except Unavailable as error:
            if not change.may_fail:
                failed.append(f"{change.told}: {error.reasons[0] if error.reasons else error.detail}")
        else:
            if change.told:
                told.append(change.told)


def _changes(wanted: SchedulerState, observed: SchedulerState) -> Iterable[Change]:
    """Return changes in an order in which nothing refers to what is not there yet, or not any more."""
    return (
        *change_qos(wanted.qos, observed.qos),
        *change_accounts(wanted.accounts, observed.accounts),
        *remove_accounts(wanted.accounts, observed.accounts, observed.foreign),
        *remove_qos(wanted.qos, observed.qos),
    )


def _reservation_changes(
    wanted: Iterable[Reservation], observed: Iterable[Reservation], now: datetime
) -> Iterable[tuple[tuple[str, ...], str]]:
    asked = {reservation.name: reservation for reservation in wanted}
    there = {reservation.name: reservation for reservation in observed}
    for name, is_now in there.items():
        if name not in asked or asked[name].kind is not is_now.kind:
            yield ("delete", f"ReservationName={name}"), f"removed reservation {name}"
    for name, reservation in asked.items():
        before = there.get(name)
        if before is None or before.kind is not reservation.kind:
            yield write_new(reservation, now), f"made reservation {name}"
        elif before != reservation:
            words = write_change(reservation, before, now)
            if len(words) > 3:
                yield words, f"changed reservation {name}"
