"""Shares, limits, reservations and usage: from what Slurm has to what it ought to have, and how it is read."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.engines.scheduler import Account, Hand, Qos, Reservation, ReservationKind, SchedulerState
from controlplane.engines.slurm.accounting import read_accounts, read_qos, read_used
from controlplane.engines.slurm.commands import Commands
from controlplane.engines.slurm.reservations import expand_hosts, read_reservations
from controlplane.engines.slurm.rest import SlurmRest
from controlplane.engines.slurm.scheduler import SlurmScheduler
from controlplane.engines.slurm.tokens import Tokens
from controlplane.kit.errors import Unavailable
from tests.engines.accounting_stand_in import Accounting, CommandsOf

NOW = datetime(2026, 11, 27, 20, 0, tzinfo=UTC)
RECORDED = Path(__file__).with_name("recorded")


def scheduler_of(accounting: Accounting) -> SlurmScheduler:
    tokens = Tokens(None)
    return SlurmScheduler(SlurmRest(Path("/nowhere"), tokens), CommandsOf(accounting), now=lambda: NOW)


def holding(state: SchedulerState) -> Accounting:
    return Accounting(
        accounts={account.name: account for account in state.accounts},
        qos={qos.name: qos for qos in state.qos},
        reservations={reservation.name: reservation for reservation in state.reservations},
    )


def held(accounting: Accounting) -> SchedulerState:
    return SchedulerState(
        tuple(sorted(accounting.accounts.values(), key=lambda account: account.name)),
        tuple(sorted(accounting.qos.values(), key=lambda qos: qos.name)),
        tuple(sorted(accounting.reservations.values(), key=lambda reservation: reservation.name)),
    )


limits = st.dictionaries(st.sampled_from(["h100", "a100"]), st.integers(0, 8)).map(lambda d: tuple(sorted(d.items())))
users = st.sets(st.sampled_from(["redoubt-serve", "redoubt-p01", "redoubt-p02"])).map(lambda s: tuple(sorted(s)))


@st.composite
def accounts(draw):
    """Draw a tree: each account is below one drawn before it, or at the top."""
    made: list[Account] = []
    for name in draw(st.lists(st.sampled_from(["site", "lab", "team", "other"]), unique=True)):
        parent = draw(st.sampled_from(["", *(account.name for account in made)]))
        made.append(Account(name, parent, draw(users), draw(limits), draw(st.integers(1, 9))))
    return tuple(sorted(made, key=lambda account: account.name))


@st.composite
def classes(draw):
    names = sorted(draw(st.sets(st.sampled_from(["inference", "training", "hold"]))))
    return tuple(
        Qos(
            name,
            draw(st.integers(0, 2000)),
            tuple(sorted(draw(st.sets(st.sampled_from(names))))),
            draw(st.integers(0, 90)),
            draw(st.booleans()),
            draw(limits),
            draw(st.sampled_from([0, 500, 1000])),
        )
        for name in names
    )


@st.composite
def windows(draw):
    made = []
    for name in sorted(draw(st.sets(st.sampled_from(["night", "spare"])))):
        by_name = draw(st.booleans())
        starts_at = NOW + timedelta(hours=draw(st.integers(1, 9)))
        made.append(
            Reservation(
                name,
                draw(st.sampled_from(ReservationKind)),
                starts_at,
                draw(st.sampled_from([None, starts_at + timedelta(hours=1)])),
                nodes=("gpu1", "gpu2") if by_name else (),
                node_count=0 if by_name else draw(st.integers(1, 3)),
                accounts=draw(st.sampled_from([("lab",), ("lab", "site")])),
            )
        )
    return tuple(made)


states = st.builds(SchedulerState, accounts(), classes(), windows())


@given(before=states, wanted=states)
def test_whatever_slurm_had_it_has_what_is_wanted_in_the_end_and_then_nothing_is_done(before, wanted):
    accounting = holding(before)
    scheduler = scheduler_of(accounting)

    async def converge() -> None:
        for _time in range(4):  # what a command cannot do before another one is done by the next round
            try:
                await scheduler.make_so(wanted, held(accounting))
            except Unavailable:
                continue

    asyncio.run(converge())

    assert held(accounting) == wanted
    assert asyncio.run(scheduler.make_so(wanted, held(accounting))) == ()


async def test_an_account_with_a_foreign_one_below_it_is_not_removed():
    lab = Account("lab", "")
    accounting = holding(SchedulerState((lab, Account("theirs", "lab"))))
    observed = SchedulerState((lab,), foreign=("account theirs: of physics, below lab",))

    told = await scheduler_of(accounting).make_so(SchedulerState(), observed)

    assert told == ()
    assert set(accounting.accounts) == {"lab", "theirs"}


async def test_what_slurm_does_not_take_keeps_it_from_nothing_else():
    accounting = Accounting(refuses=("lab",))
    wanted = SchedulerState((Account("lab", ""), Account("site", "")), (Qos("training", 200),))

    with pytest.raises(Unavailable) as unavailable:
        await scheduler_of(accounting).make_so(wanted, SchedulerState())

    assert unavailable.value.reasons == ("set account lab: Access/permission denied",)
    assert (set(accounting.accounts), set(accounting.qos)) == ({"site"}, {"training"})


def test_the_accounting_that_slurmdbd_tells_is_read():
    told = json.loads((RECORDED / "slurmdb_v0_0_42.json").read_text())

    accounts, foreign = read_accounts(told["accounts"], told["associations"], overseer="redoubt-slurm")
    qos, foreign_qos = read_qos(told["qos"])

    assert accounts == (
        Account("lab", "site", ("redoubt-p02",), (("h100", 0),), 3),
        Account("redoubt", "site", ("redoubt-serve",)),
        Account("site", ""),
    )
    assert qos == (
        Qos("hold", 2000, requeues=False),
        Qos("inference", 1000, ("training",), 30, requeues=False, usage_permille=0),
        Qos("training", 200, (), 60, gpus=(("h100", 3),)),
    )
    assert foreign == ["account physics: of physics, below root"]
    assert foreign_qos == ["qos serving: described as 'theirs', priority 1000"]


def test_accounts_that_are_hidden_are_not_taken_for_accounts_that_are_gone():
    with pytest.raises(Unavailable, match="does not show its accounts"):
        read_accounts([], [], overseer="redoubt-slurm")


def test_every_start_of_a_job_with_gpus_is_read():
    jobs = json.loads((RECORDED / "slurmdb_v0_0_42.json").read_text())["jobs"]

    used = list(read_used(jobs))

    assert [(use.ref, use.name, use.gpus, use.gpu_type, use.node, use.state) for use in used] == [
        ("5", "replica_1", 1, "h100", "gpu1", "running"),
        ("9", "job_1", 2, "h100", "gpu1", "requeued"),
        ("9", "job_1", 2, "h100", "gpu2", "timeout"),
        ("21_2", "job_2.2", 1, "h100", "gpu1", "failed"),
    ]
    assert used[0].ended_at is None
    assert used[2].ended_at is not None
    assert (used[2].ended_at - used[2].started_at).total_seconds() == 137


def test_reservations_are_read_from_scontrols_own_words():
    text = (RECORDED / "reservations.txt").read_text()

    ours, foreign = read_reservations(text)

    night = datetime(2026, 12, 1, tzinfo=UTC)
    assert ours == (
        Reservation("spare", ReservationKind.SPARE, NOW.replace(hour=21, minute=8, second=44), None, (), 1, ("lab",)),
        Reservation(
            "night", ReservationKind.MAINTENANCE, night, night + timedelta(hours=5), ("gpu1", "gpu2", "gpu4"), 0, ()
        ),
    )
    assert ours[0].chosen == ("gpu2",)
    assert foreign == ["reservation theirs: gpu2, MAINT,SPEC_NODES"]
    assert read_reservations("No reservations in the system\n") == ((), [])


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("gpu1", ["gpu1"]),
        ("(null)", []),
        ("a[01-03,9],b", ["a01", "a02", "a03", "a9", "b"]),
        ("r[1-2]n[3-4]", ["r1n3", "r1n4", "r2n3", "r2n4"]),
    ],
)
def test_lists_of_nodes_are_spelt_out(text, hosts):
    assert list(expand_hosts(text)) == hosts


@pytest.fixture
def programs(tmp_path):
    """A folder of commands: each is a script that is given as its text."""
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    (tokens / "redoubt-slurm").write_text("secret")

    def make(**scripts: str) -> Commands:
        for name, script in scripts.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return Commands(tmp_path, Tokens(tokens), timeout_s=2)

    return make


async def test_a_command_has_the_overseers_token_and_tells_times_of_no_zone(programs):
    commands = programs(sacctmgr='echo "$SLURM_JWT $TZ $SLURM_BITSTR_LEN $*"')

    assert await commands.run("sacctmgr", "show", "qos") == "secret UTC 0 show qos\n"


async def test_a_command_that_hangs_is_ended_and_said_so(programs):
    commands = programs(scontrol="exec /bin/sleep 60")

    with pytest.raises(Unavailable, match="scontrol took longer than 2 s"):
        await commands.run("scontrol", "show", "reservation")


async def test_a_command_that_fails_is_told_in_its_own_words(programs):
    commands = programs(sacctmgr="echo one; echo 'Access/permission denied' >&2; exit 1")

    with pytest.raises(Unavailable) as unavailable:
        await commands.run("sacctmgr", "add", "qos", "x")

    assert unavailable.value.reasons == ("Access/permission denied",)


async def test_a_command_that_is_not_there_is_named(programs):
    with pytest.raises(Unavailable, match="scontrol cannot be run"):
        await programs().run("scontrol", "ping")


async def test_when_slurmrestd_is_away_the_commands_are_asked_and_say_the_same(programs, tmp_path):
    told = RECORDED / "slurmdb_v0_0_42.json"
    commands = programs(
        sacctmgr=f"/bin/cat {told}", sacct=f"/bin/cat {told}", scontrol=f"/bin/cat {RECORDED}/reservations.txt"
    )
    rest = SlurmRest(tmp_path / "nobody.sock", Tokens(tmp_path / "tokens"))
    scheduler = SlurmScheduler(rest, commands, now=lambda: NOW)

    state = await scheduler.read_state()
    used = await scheduler.list_used(NOW)

    assert [account.name for account in state.accounts] == ["lab", "redoubt", "site"]
    assert [reservation.name for reservation in state.reservations] == ["spare", "night"]
    assert len(state.foreign) == 3
    assert len(used) == 4


async def test_what_others_changed_is_listed_and_what_we_did_is_not(programs, tmp_path):
    lines = "2026-11-27T21:08:44|root|Modify QOS|(name='training')|priority=5\n2026-11-27T21:08:45|redoubt-slurm|x|y|z"
    scheduler = SlurmScheduler(
        SlurmRest(tmp_path / "s", Tokens(tmp_path / "tokens")), programs(sacctmgr=f'echo "{lines}"'), now=lambda: NOW
    )

    assert await scheduler.list_hands(NOW) == (
        Hand(NOW.replace(hour=21, minute=8, second=44), "root", "Modify QOS (name='training') priority=5"),
    )


def test_a_spare_pool_that_has_begun_is_not_told_its_beginning_again():
    began = Reservation("spare", ReservationKind.SPARE, NOW - timedelta(days=1), None, node_count=1, accounts=("lab",))
    accounting = holding(SchedulerState(reservations=(began,)))
    wanted = replace(began, starts_at=NOW - timedelta(hours=1))

    told = asyncio.run(scheduler_of(accounting).make_so(SchedulerState(reservations=(wanted,)), held(accounting)))

    assert told == ()
