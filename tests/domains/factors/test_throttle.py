from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controlplane.domains.factors.rules.throttle import (
    ACCOUNT,
    LONGEST,
    SOURCE,
    Count,
    charged,
    delay,
    forgiven,
    subjects_of,
    unused,
    wait_s,
)
from controlplane.domains.factors.types import Claim

START = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (3, 0), (4, 2), (5, 4), (8, 32), (12, 512), (13, 900), (40, 900), (10**9, 900)]
)
def test_each_wrong_guess_doubles_the_wait_up_to_a_quarter_of_an_hour(failures: int, seconds: int):
    assert delay(failures, ACCOUNT) == timedelta(seconds=seconds)


def test_many_people_behind_one_address_do_not_stop_each_other():
    assert delay(20, SOURCE) == timedelta(0)
    assert delay(21, SOURCE) > timedelta(0)


def test_a_block_that_a_clock_set_back_has_made_endless_is_void():
    count = Count(50, START, START + timedelta(days=365))

    assert wait_s(count, START) == 0


def test_wrong_guesses_are_forgotten_a_day_after_the_last():
    count = Count(50, START, START)

    assert charged(count, START + timedelta(days=1, seconds=1), ACCOUNT).failures == 1


def test_guesses_from_anywhere_in_one_ipv6_network_count_together():
    first, second, other = (subjects_of(Claim("", "", f"2001:db8:0:{end}")) for end in ("1::1", "1:2:3:4:5", "2::1"))

    assert first == second != other


def test_ipv4_callers_count_each_for_itself_however_their_address_is_written():
    plain, mapped, other = (subjects_of(Claim("", "", ip)) for ip in ("10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.2"))

    assert plain == mapped != other


class Throttle(RuleBasedStateMachine):
    """One account within a day: guesses overlap, right ones and wrong ones, and time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.count = unused(START)
        self.checking: list[Count] = []
        self.wrong = 0

    @rule(seconds=st.integers(0, 3000))
    def wait(self, seconds: int) -> None:
        self.now = min(self.now + timedelta(seconds=seconds), START + timedelta(hours=20))

    @rule()
    def guess(self) -> None:
        if wait_s(self.count, self.now) == 0:
            self.count = charged(self.count, self.now, ACCOUNT)
            self.checking.append(self.count)
            assert wait_s(self.count, self.now) == delay(self.wrong + len(self.checking), ACCOUNT).total_seconds()

    @rule(right=st.booleans(), first=st.booleans())
    def learn(self, right: bool, first: bool) -> None:
        if not self.checking:
            return
        charge = self.checking.pop(0 if first else -1)
        if right:
            self.count = forgiven(self.count, charge, self.now)
        else:
            self.wrong += 1

    @invariant()
    def every_wrong_guess_counts_and_so_does_each_that_is_being_checked(self) -> None:
        assert self.count.failures == self.wrong + len(self.checking)

    @invariant()
    def nobody_waits_longer_than_a_quarter_of_an_hour(self) -> None:
        assert wait_s(self.count, self.now) <= LONGEST.total_seconds()


TestThrottle = Throttle.TestCase
