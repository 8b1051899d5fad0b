from datetime import timedelta

import pytest

from controlplane.contracts.reports import AccessReport, PrincipalReport
from controlplane.domains.reports.rules.compose import UNLABELLED, compose, concerns, dormant_days, label_of
from controlplane.domains.reports.rules.duties import APART, ONESELF, TWO_PEOPLE, WATCHES, find_conflicts
from controlplane.domains.reports.types import Period
from tests.domains.reports.facts import (
    ADA,
    EVENTS,
    HEADING,
    MALLORY,
    PERIOD,
    SLEEPER,
    a_report,
    day,
    event,
    person,
    span,
)


def of(report: AccessReport, name: str) -> PrincipalReport:
    return next(one for one in report.principals if one.name == name)


def test_a_role_is_listed_with_who_gave_it_and_when_it_ended():
    roles = of(a_report(), "ada").roles
    assert [(s.role, s.granted_by, s.revoked_at) for s in roles] == [
        ("platform-admin", "user_root", None),
        ("operator", "user_root", day(20)),
    ]


def test_a_role_that_ended_before_the_period_is_not_in_it():
    early = person("early", span("operator", -60, -1), span("auditor", 31))
    report = compose(HEADING, PERIOD, [early], {}, [], {})
    assert report.principals[0].roles == ()


def test_privileged_actions_are_what_was_changed_and_not_sign_ins_or_denials():
    ada = of(a_report(), "ada")
    assert [line.event for line in ada.privileged] == ["endpoint.created"]
    assert [line.event for line in ada.denials] == ["request.denied"]


def test_each_line_has_its_leaf_and_its_proof():
    line = of(a_report(), "ada").privileged[0]
    assert (line.leaf_index, line.proof, line.entry) == (0, "proof of evt_2", '{"event_id":"evt_2"}')


def test_what_has_no_proof_yet_is_said_to_have_none():
    assert a_report().not_covered[0].startswith("1 events have no inclusion proof")


def test_what_was_too_much_to_list_is_said():
    report = compose(HEADING, PERIOD, [], {}, [], {}, cut_short=True)
    assert report.not_covered[0].startswith("only the newest events")


def test_data_touched_is_counted_by_label():
    key = person("key", id="key_1")
    (found,) = compose(HEADING, PERIOD, [key], {}, EVENTS, {}).principals[0].touched
    assert (found.label, found.event, found.times) == ("classification 2, zone north", "inference.completed", 1)


def test_data_without_a_label_counts_as_the_most_restrictive():
    assert label_of(event(1, "a", "dataset.read", "x")) == UNLABELLED
    assert label_of(event(1, "a", "node.declared", "x")) == ""


def test_an_account_that_slept_ninety_days_is_dormant():
    assert of(a_report(), "sleeper").dormant_days == 130
    assert of(a_report(), "ada").dormant_days is None


@pytest.mark.parametrize(
    ("who", "days"),
    [
        (person("new", span("operator", 20), created_at=day(20)), None),
        (person("gone", span("operator", -99), disabled_at=day(-1)), None),
        (person("bare"), None),
        (person("kept", span("operator", -99, 10)), None),
    ],
)
def test_who_could_not_sign_in_or_is_new_is_not_dormant(who, days):
    assert dormant_days(who, None, PERIOD.ended_at) == days


def test_every_kind_of_duty_conflict_is_found():
    found = {(c.why, c.duties) for c in of(a_report(), "mallory").conflicts}
    assert found == {
        (APART, ("platform-admin", "security-admin")),
        (ONESELF, ("platform-admin", "platform-admin")),
        (TWO_PEOPLE, ("approval.propose", "approval.decide")),
    }


def test_a_conflict_lasts_as_long_as_both_roles_are_held():
    (apart,) = [c for c in of(a_report(), "mallory").conflicts if c.why == APART]
    assert (apart.since, apart.until) == (day(5), day(12))


@pytest.mark.parametrize(
    ("roles", "why"),
    [
        ([span("auditor", 0), span("operator", 1)], [WATCHES]),
        ([span("auditor", 0, 1), span("operator", 1)], []),
        ([span("auditor", 0, 1), span("auditor", 1)], []),
        ([span("operator", 0), span("data-steward", 1)], []),
        ([span("auditor", -9, -5), span("operator", -7)], []),
    ],
)
def test_roles_that_exclude_each_other_conflict_only_while_both_are_held(roles, why):
    assert [c.why for c in find_conflicts(person("x", *roles), [], PERIOD)] == why


def test_what_was_done_under_break_glass_is_listed():
    assert [line.event for line in of(a_report(), "mallory").break_glass] == ["node.declared"]


def test_an_object_says_who_could_and_who_did():
    (thing,) = a_report().objects
    assert [(c.name, c.verbs) for c in thing.could] == [("ada", ("endpoint.read",))]
    assert [(d.actor, d.event) for d in thing.did] == [
        ("key_1", "inference.completed"),
        ("user_ada", "endpoint.created"),
    ]


@pytest.mark.parametrize(
    ("name", "resource", "details", "thing", "is_about"),
    [
        ("endpoint.created", "chat", {}, "endpoint/chat", True),
        ("model.registered", "chat", {}, "endpoint/chat", False),
        ("lease.granted", "replica_1", {"endpoint": "chat"}, "endpoint/chat", True),
        ("endpoint.deleted", "ep_1", {"name": "chat"}, "endpoint/chat", True),
        ("request.denied", "chat", {}, "endpoint/chat", False),
        ("endpoint.created", "chatter", {}, "endpoint/chat", False),
    ],
)
def test_what_concerns_an_object(name, resource, details, thing, *, is_about):
    assert concerns(event(1, "a", name, resource, **details), thing) is is_about


def test_an_event_at_the_end_of_the_period_is_in_the_next_one():
    at = PERIOD.ended_at
    assert not PERIOD.holds(at)
    assert Period(at, at + timedelta(days=1)).holds(at)


def test_nobody_is_left_out():
    assert [p.name for p in a_report().principals] == [ADA.name, MALLORY.name, SLEEPER.name]
