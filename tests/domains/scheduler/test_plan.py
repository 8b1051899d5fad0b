"""What is changed and what is left alone: wanted, as we left it, and as it is, compared."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.scheduler.rules.plan import compare, things_of
from controlplane.domains.scheduler.types import Kind
from controlplane.engines.scheduler import Account, Hand, Qos, Reservation, ReservationKind, SchedulerState

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
LAB = Account("lab", "site", ("redoubt-p01",), (("h100", 2),))
KEY = (Kind.ACCOUNT, "lab")
NIGHT = Reservation(
    "night", ReservationKind.MAINTENANCE, NOW + timedelta(hours=2), NOW + timedelta(hours=4), nodes=("gpu1",)
)


def state(*accounts: Account, foreign: tuple[str, ...] = ()) -> SchedulerState:
    return SchedulerState(accounts=accounts, foreign=foreign)


def bigger(account: Account, gpus: int = 8) -> Account:
    return replace(account, gpus=(("h100", gpus),))


@pytest.mark.parametrize(
    ("wanted", "left", "observed", "changes", "drift"),
    [
        (state(LAB), {}, state(), ["add account lab"], []),
        (state(LAB), {}, state(LAB), [], []),
        (state(LAB), {KEY: LAB}, state(LAB), [], []),
        (state(LAB), {}, state(bigger(LAB)), ["change account lab"], []),  # ours by its mark, from before
        (state(bigger(LAB)), {KEY: LAB}, state(LAB), ["change account lab"], []),
        (state(LAB), {KEY: LAB}, state(bigger(LAB)), [], ["was changed: gpus h100=2 -> h100=8"]),
        (state(bigger(LAB, 4)), {KEY: LAB}, state(bigger(LAB)), [], ["was changed: gpus h100=2 -> h100=8"]),
        (state(LAB), {KEY: LAB}, state(), [], ["was removed"]),
        (state(), {KEY: LAB}, state(LAB), ["remove account lab"], []),
        (state(), {KEY: LAB}, state(bigger(LAB)), [], ["was changed: gpus h100=2 -> h100=8; it is no longer wanted"]),
        (state(), {KEY: LAB}, state(), [], []),
        (state(), {}, state(LAB), [], []),  # carries our mark, and nobody knows of it: it stays
        (
            state(LAB),
            {},
            state(foreign=("account lab: of physics, below root",)),
            [],
            ["is there, and Redoubt did not make it"],
        ),
    ],
)
def test_what_is_ours_is_changed_and_what_another_hand_did_is_told(wanted, left, observed, changes, drift):
    plan = compare(wanted, left, observed, NOW)

    assert [change.partition(":")[0] for change in plan.changes] == changes
    assert [one.what for one in plan.drift] == drift


accounts = st.lists(
    st.builds(
        Account,
        st.sampled_from(["a", "b", "c"]),
        st.just(""),
        st.just(()),
        st.sampled_from([(), (("h100", 1),), (("h100", 2),)]),
        st.integers(1, 2),
    ),
    unique_by=lambda account: account.name,
).map(tuple)


@given(wanted=accounts, left=accounts, observed=accounts)
def test_nothing_that_another_hand_changed_is_changed_and_taken_over_all_is_as_wanted(wanted, left, observed):
    asked, is_now = SchedulerState(wanted), SchedulerState(observed)
    known = things_of(SchedulerState(left), NOW)

    plan = compare(asked, known, is_now, NOW)
    over = frozenset((drift.kind, drift.name) for drift in plan.drift)
    taken = compare(asked, known, is_now, NOW, take_over=over)

    target, there = things_of(plan.target, NOW), things_of(is_now, NOW)
    for drift in plan.drift:
        assert target.get((drift.kind, drift.name)) == there.get((drift.kind, drift.name))
    for key, thing in there.items():
        if key not in known and key not in things_of(asked, NOW):
            assert target[key] == thing
    assert not taken.drift
    for key, thing in things_of(asked, NOW).items():
        assert things_of(taken.target, NOW)[key] == thing


def test_who_did_it_is_said_where_the_scheduler_names_it_and_guessed_at_where_it_gives_a_number():
    qos = Qos("training", 200)
    hands = [
        Hand(NOW, "root", "Modify QOS (name='training') priority=5"),
        Hand(NOW, "anna", "Modify QOS (name='other') priority=5"),
        Hand(NOW, "bert", "Modify Associations (id_assoc=7) shares=7"),
    ]

    def drift_of(wanted: SchedulerState, observed: SchedulerState):
        [drift] = compare(wanted, things_of(wanted, NOW), observed, NOW, hands=hands).drift
        return [words.partition(" at ")[0] for words in drift.hands]

    assert drift_of(SchedulerState(qos=(qos,)), SchedulerState(qos=(replace(qos, priority=5),))) == ["root"]
    assert drift_of(state(LAB), state(bigger(LAB))) == ["bert"]


def test_when_a_reservation_began_does_not_count_and_when_it_will_begin_does():
    began = replace(NIGHT, starts_at=NOW - timedelta(hours=2))
    seen = replace(began, starts_at=NOW - timedelta(hours=1))
    later = replace(NIGHT, starts_at=NOW + timedelta(hours=1))

    assert compare(SchedulerState(reservations=(began,)), {}, SchedulerState(reservations=(seen,)), NOW).changes == ()
    [change] = compare(SchedulerState(reservations=(NIGHT,)), {}, SchedulerState(reservations=(later,)), NOW).changes
    assert change == "change reservation night: starts_at 2026-11-27 13:00:00 -> 2026-11-27 14:00:00"


def test_a_reservation_that_is_over_is_gone_as_it_ought_to_be():
    over = replace(NIGHT, starts_at=NOW - timedelta(hours=2), ends_at=NOW - timedelta(seconds=1))
    wanted = SchedulerState(reservations=(over,))

    plan = compare(wanted, {(Kind.RESERVATION, "night"): over}, SchedulerState(), NOW)

    assert (plan.changes, plan.drift) == ((), ())


def test_the_order_of_words_is_no_difference():
    one = replace(LAB, users=("a", "b"), gpus=(("a100", 1), ("h100", 1)))
    other = replace(LAB, users=("b", "a"), gpus=(("h100", 1), ("a100", 1)))

    assert compare(state(one), {}, state(other), NOW).changes == ()
