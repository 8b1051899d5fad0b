"""When leaves are renewed: in time on every clock, never all at once, and no machine may collect them."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.pki import rules
from controlplane.domains.pki.types import Kind, Standing

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
STARTS = st.integers(0, 14 * 365 * 86400).map(lambda seconds: EPOCH + timedelta(seconds=seconds))
LIVES = st.timedeltas(timedelta(minutes=2), timedelta(days=400))
SERIALS = st.integers(1, 2**159).map(lambda number: f"{number:x}")
GRACES = st.timedeltas(timedelta(0), timedelta(days=60))


@given(STARTS, LIVES, SERIALS)
def test_a_leaf_is_renewed_at_half_life_and_long_before_anybody_is_alarmed(
    start: datetime, life: timedelta, serial: str
) -> None:
    at = rules.renew_at(start, start + life, serial)

    assert start + life / 2 <= at <= start + life * 0.55
    assert rules.alarm_at(start, start + life) - at >= life * 0.19


@given(STARTS, LIVES, SERIALS)
def test_the_control_plane_never_calls_a_leaf_too_young_when_its_holder_finds_it_due(
    start: datetime, life: timedelta, serial: str
) -> None:
    at = rules.renew_at(start, start + life, serial)

    assert rules.may_renew(start, start + life, at)
    assert not rules.may_renew(start, start + life, start)


@given(STARTS, LIVES, SERIALS)
def test_many_looks_fall_between_half_life_and_the_alarm(start: datetime, life: timedelta, serial: str) -> None:
    pause = timedelta(seconds=rules.look_every_s(start, start + life))

    left = rules.alarm_at(start, start + life) - rules.renew_at(start, start + life, serial)

    assert left / pause >= 35


@given(STARTS, LIVES, SERIALS, st.lists(st.booleans(), min_size=60, max_size=60))
def test_an_agent_whose_control_plane_comes_back_before_the_end_never_lapses(
    start: datetime, life: timedelta, serial: str, answers: list[bool]
) -> None:
    """Asks at every look from half-life on; one answer in that time is enough."""
    now, end = rules.renew_at(start, start + life, serial), start + life
    pause = timedelta(seconds=rules.look_every_s(start, end))
    for answered in answers:
        if answered:
            break
        now += pause

    assert now < end


@given(STARTS, LIVES, GRACES, st.floats(-1, 3))
def test_every_moment_has_one_standing_and_they_come_in_order(
    start: datetime, life: timedelta, grace: timedelta, part: float
) -> None:
    order = [Standing.EARLY, Standing.VALID, Standing.LAPSED, Standing.OVER]
    now = start + life * part

    here, later = (rules.standing(start, start + life, at, grace) for at in (now, now + timedelta(seconds=1)))

    assert order.index(here) <= order.index(later)
    assert (here == Standing.VALID) == (start - rules.SKEW <= now <= start + life)


@given(st.sets(SERIALS, min_size=200, max_size=200))
def test_leaves_of_one_minute_are_not_renewed_in_one_minute(serials: set[str]) -> None:
    start = datetime(2026, 11, 27, tzinfo=UTC)

    minutes = {rules.renew_at(start, start + timedelta(hours=48), serial).replace(second=0) for serial in serials}

    assert len(minutes) > 20


def test_a_revocation_covers_every_leaf_until_it_is_lifted_and_then_those_from_before() -> None:
    lifted = datetime(2026, 11, 27, tzinfo=UTC)

    assert rules.is_refused(lifted + timedelta(days=1), None)
    assert rules.is_refused(lifted - timedelta(seconds=1), lifted)
    assert not rules.is_refused(lifted, lifted)


def test_only_agents_and_gateways_renew_over_the_machine_api() -> None:
    renewed = [name for name in ("gateway", "api", "postgres", "depot", "proof") if rules.usages_of(Kind.SERVICE, name)]

    assert renewed == ["gateway"]
    assert rules.usages_of(Kind.NODE, "gpu1") == rules.OF_NODE
