"""The shipped policies say what the table says, for every verb and every role, and what the constitution leaves."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules import cedar, decision, shipped
from controlplane.domains.policy.rules.verbs import VERBS, read, to_table, write
from controlplane.domains.policy.types import (
    PEOPLE,
    STAFF,
    TENANTS,
    Kind,
    Outcome,
    Place,
    Question,
    Resource,
    Verb,
)

# no verb moves data yet, and the rules about it must hold on the day when one does
MOVER = write("data.move", Role.DATA_STEWARD, Role.TENANT_ADMIN, moves=True)
TABLE = {**VERBS, MOVER.name: MOVER}
ENGINE = cedar.load(shipped.shipped_policies(), TABLE)

roles = st.frozensets(st.sampled_from(sorted(Role)), max_size=3)
projects = st.sampled_from(["", "blue", "red"])
resources = st.builds(
    Resource,
    kind=st.just("thing"),
    id=st.sampled_from(["ann", "thing"]),
    project=projects,
    zone=st.sampled_from(["", "north"]),
    classification=st.integers(-1, 4),
    jurisdictions=st.frozensets(st.sampled_from(["DE", "FR"])),
)
places = st.none() | st.builds(
    Place, zone=st.sampled_from(["north", "south", ""]), jurisdiction=st.sampled_from(["DE", "US"]),
    clearance=st.integers(0, 3),
)  # fmt: skip
questions = st.builds(
    Question,
    actor=st.just("ann"),
    roles=roles,
    project=projects,
    verb=st.sampled_from([*TABLE, "no.verb"]),
    resource=resources,
    second_factor=st.booleans(),
    stepped_up=st.booleans(),
    source=st.sampled_from(["", "10.0.0.7", "fe80::1%eth0", "no address"]),
    hour=st.integers(0, 23),
    weekday=st.integers(1, 7),
    to=places,
)


def expected(question: Question, verb: Verb) -> bool:
    """The table and the constitution, told a second time and another way round."""
    people = question.roles & PEOPLE
    if not question.roles & verb.roles or (verb.own and question.resource.id != question.actor):
        return False
    if not people:
        fits = question.roles <= verb.roles and not question.project
    else:
        fits = people == question.roles and _fits_a_person(question, verb)
    return fits and _fits_the_label(question, verb, person=bool(people))


def _fits_a_person(question: Question, verb: Verb) -> bool:
    staff, tenants = question.roles & STAFF, question.roles & TENANTS
    if Role.AUDITOR in staff and verb.kind is Kind.WRITE and not verb.own:
        return False
    if staff:
        return not tenants and not question.project
    shared = verb.shared and not question.resource.project
    return bool(question.project) and (verb.own or shared or question.resource.project == question.project)


def _fits_the_label(question: Question, verb: Verb, *, person: bool) -> bool:
    thing, to = question.resource, question.to
    if thing.classification not in range(4) or (thing.classification == 3 and person and not question.second_factor):
        return False
    if not verb.moves:
        return True
    if to is None or to.clearance < thing.classification:
        return False
    return to.jurisdiction in thing.jurisdictions or (not thing.jurisdictions and to.zone == thing.zone != "")


@given(questions)
def test_both_engines_together_answer_as_the_table_says(question: Question):
    answer = decision.decide(ENGINE, question)
    verb = TABLE.get(question.verb)

    allowed = verb is not None and expected(question, verb)
    assert (answer.outcome is not Outcome.DENY) == allowed
    assert not answer.disputed  # the shipped policies never allow what the constitution forbids


def test_every_role_has_exactly_the_verbs_of_its_lines():
    for role, verb in product(Role, VERBS.values()):
        project = "blue" if role in TENANTS else ""
        thing = Resource("thing", "ann" if verb.own else "thing", "" if verb.shared else project, zone="north")
        home = Place("north", "DE", 3) if verb.moves else None
        asked = Question("ann", frozenset({role}), project, verb.name, thing, stepped_up=True, to=home)

        assert (decision.decide(ENGINE, asked).outcome is Outcome.ALLOW) == (role in verb.roles), (role, verb.name)


def test_a_dangerous_verb_wants_a_fresh_second_factor_of_people():
    asked = Question(
        "ann", frozenset({Role.SECURITY_ADMIN}), "", "approval.decide", Resource("approval", "a"), second_factor=True
    )

    assert decision.decide(ENGINE, asked).outcome is Outcome.STEP_UP
    assert decision.decide(ENGINE, replace(asked, stepped_up=True)).outcome is Outcome.ALLOW
    assert decision.decide(ENGINE, replace(asked, roles=frozenset({Role.OPERATOR}))).outcome is Outcome.DENY


def test_break_glass_has_the_verbs_of_the_staff_and_no_others():
    of_staff = {v.name for v in VERBS.values() if v.roles & (STAFF - {Role.BREAK_GLASS})}

    assert {v.name for v in VERBS.values() if Role.BREAK_GLASS in v.roles} == of_staff - {"approval.decide"}


def test_who_audits_writes_nothing_that_is_not_its_own():
    assert [v.name for v in VERBS.values() if Role.AUDITOR in v.roles and v.kind is Kind.WRITE and not v.own] == []


def test_a_verb_with_two_lines_is_refused():
    with pytest.raises(ValueError, match=r"node\.read"):
        to_table(read("node.read", Role.OPERATOR), read("node.read", Role.AUDITOR))
