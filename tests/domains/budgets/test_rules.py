"""What a gateway is granted never passes a limit, whatever anybody asked and used."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.budgets.rules import budget_of, decide, is_account_of, period_id, period_of, taken
from controlplane.domains.budgets.types import Ask, Holding, Period, Window

AMOUNT = st.integers(0, 2_000)
HOLDINGS = st.lists(st.builds(Holding, granted=AMOUNT, used=AMOUNT, spent=AMOUNT, closed=st.booleans()), max_size=5)
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@given(st.integers(0, 5_000), HOLDINGS, AMOUNT, AMOUNT, AMOUNT, st.booleans())
def test_nothing_is_granted_beyond_what_is_left(most, others, granted, wanted, ahead, recalled):
    ask = Ask("a", granted=granted, used=0, spent=0, wanted=wanted, ahead=ahead)

    verdict = decide(most, others, Holding(granted), ask, recalled=recalled)

    gone = sum(taken(other) for other in others)
    assert verdict.granted <= max(granted, most - gone)
    assert verdict.granted >= granted, "the holder may have used all that it believes to have"
    assert verdict.left <= max(0, most - gone - verdict.granted)


@given(st.integers(0, 5_000), HOLDINGS, AMOUNT, AMOUNT)
def test_who_must_have_something_gets_all_of_it_or_all_there_is(most, others, granted, wanted):
    verdict = decide(most, others, Holding(granted), Ask("a", granted, 0, 0, wanted, 0), recalled=False)

    room = max(0, most - sum(taken(other) for other in others) - granted)
    assert verdict.granted == granted + min(max(0, wanted - granted), room)
    assert verdict.short == (verdict.granted < wanted)


def test_a_holder_that_forgot_what_it_spent_gets_no_more_than_its_spool_leaves():
    ask = Ask("a", granted=10, used=10, spent=10, wanted=100, ahead=0)

    verdict = decide(100, [], Holding(granted=60, used=60, spent=60), ask, recalled=False)

    assert verdict.granted == 50, "60 are spent already, so 40 more and none beyond"


def test_what_is_given_ahead_is_never_more_than_a_part_of_what_is_left():
    ask = Ask("a", granted=0, used=0, spent=0, wanted=10, ahead=1_000)

    alone = decide(110, [], Holding(), ask, recalled=False)
    of_two = decide(110, [Holding()], Holding(), ask, recalled=False)
    while_others_are_short = decide(110, [Holding()], Holding(), ask, recalled=True)

    assert (alone.granted, of_two.granted, while_others_are_short.granted) == (60, 35, 10)


def test_a_closed_spool_gives_back_what_its_holder_did_not_spend():
    dead = Holding(granted=100, used=90, spent=30, closed=True)

    verdict = decide(100, [dead], Holding(), Ask("a", 0, 0, 0, 100, 0), recalled=False)

    assert (verdict.granted, verdict.short) == (70, True)


def test_what_went_beyond_by_an_exception_is_gone_for_everybody_else():
    beyond = Holding(granted=50, used=80, spent=60)

    verdict = decide(100, [beyond], Holding(), Ask("a", 0, 0, 0, 100, 0), recalled=False)

    assert verdict.granted == 20


@pytest.mark.parametrize(
    ("window", "tag", "ends_at"),
    [
        (Window.FIXED, "", None),
        (Window.DAY, "2026-11-28", datetime(2026, 11, 29, tzinfo=UTC)),
        (Window.MONTH, "2026-11", datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_days_and_months_are_utc(window, tag, ends_at):
    assert period_of(window, NOON) == Period(tag, ends_at)
    assert period_of(window, NOON.astimezone(tz=None)) == Period(tag, ends_at)


def test_an_account_ends_with_its_period_and_a_little_leeway():
    midnight = datetime(2026, 11, 29, tzinfo=UTC)
    account = period_id("budget_a", period_of(Window.DAY, NOON)) + "/nightly"

    def is_now(at: datetime) -> bool:
        return is_account_of(account, "budget_a", window=Window.DAY, named=True, now=at)

    assert budget_of(account) == "budget_a"
    assert [is_now(midnight + timedelta(seconds=s)) for s in (-1, 60, 180)] == [True, True, False]


@pytest.mark.parametrize(("account", "named"), [("budget_a/x", False), ("budget_a", True), ("budget_a/", True)])
def test_an_account_that_the_budget_does_not_have_is_none(account, named):
    assert not is_account_of(account, "budget_a", window=Window.FIXED, named=named, now=NOON)
