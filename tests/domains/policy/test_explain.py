"""What would change an answer: each change that is named does change it, and a small one is named before two."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules import cedar, decision, explain, shipped
from controlplane.domains.policy.rules.verbs import VERBS, write
from controlplane.domains.policy.types import MACHINES, TENANTS, Outcome, Place, Question, Resource

MOVER = write("data.move", Role.DATA_STEWARD, moves=True)
TABLE = {**VERBS, MOVER.name: MOVER}
ENGINE = cedar.load(shipped.shipped_policies(), TABLE)


def asked(verb: str, *roles: Role, **given) -> Question:
    resource = given.pop("resource", Resource(verb.partition(".")[0], "x"))
    base = Question("ann", frozenset(roles), "", verb, resource, second_factor=True, stepped_up=True)
    return replace(base, **given)


def words(question: Question, engine: cedar.Engine = ENGINE) -> list[tuple[str, str]]:
    return [(change.words, str(change.outcome)) for change in explain.changes(engine, question)]


def test_a_missing_role_is_named():
    assert words(asked("node.declare", Role.OPERATOR)) == [
        ("with the role break-glass too", "allow"),
        ("with the role platform-admin too", "allow"),
    ]


def test_an_auditor_needs_another_role_in_its_place_and_not_beside_it():
    found = dict(words(asked("endpoint.create", Role.AUDITOR)))

    assert found["as operator instead"] == "allow"
    assert "with the role operator too" not in found


def test_a_missing_second_factor_is_named():
    question = asked("role.grant", Role.PLATFORM_ADMIN, stepped_up=False)

    assert ("with a second factor shown now", "allow") in words(question)


def test_a_missing_role_and_factor_are_named_together():
    found = dict(words(asked("approval.decide", stepped_up=False, second_factor=False)))

    assert found == {"with the role security-admin too": "step_up"}


def test_two_changes_are_named_where_no_single_one_helps():
    thing = Resource("key", "k", project="red")
    found = dict(words(asked("api_key.read", Role.OPERATOR, project="blue", resource=thing)))

    assert found["as tenant-admin instead and as a principal of project red"] == "allow"


def test_another_place_is_named():
    thing = Resource("data", "d", zone="north", classification=2, jurisdictions=frozenset({"DE", "FR"}))
    found = dict(words(asked("data.move", Role.DATA_STEWARD, resource=thing, to=Place("east", "US", 3))))

    assert set(found) == {"to a zone in DE", "to a zone in FR"}


def test_a_time_of_the_day_is_named():
    hours = '@id("hours") forbid (principal, action == Action::"endpoint.delete", resource) when { context.hour < 9 };'
    engine = cedar.load(shipped.shipped_policies() + hours, TABLE)

    assert ("at 12:00 UTC", "allow") in words(asked("endpoint.delete", Role.OPERATOR, hour=3), engine)


def test_what_is_allowed_says_what_it_hangs_on():
    found = dict(words(asked("role.grant", Role.PLATFORM_ADMIN)))

    assert found["without the role platform-admin"] == "deny"
    assert found["without a second factor"] == "step_up"


@pytest.mark.parametrize("verb", ["no.verb", "snapshot.publish"])
def test_what_no_person_may_has_no_change_to_offer(verb: str):
    assert words(asked(verb, Role.OPERATOR)) == []


@settings(max_examples=40)
@given(
    verb=st.sampled_from(sorted(TABLE)),
    roles=st.frozensets(st.sampled_from(sorted(set(Role) - MACHINES)), max_size=2),
    project=st.sampled_from(["", "blue"]),
    owner=st.sampled_from(["", "blue", "red"]),
)
def test_every_change_that_is_named_is_another_answer(verb: str, roles: frozenset[Role], project: str, owner: str):
    question = asked(verb, *roles, project=project, resource=Resource("x", "y", project=owner))
    before = decision.decide(ENGINE, question).outcome

    found = explain.changes(ENGINE, question)

    assert all(change.outcome is not before for change in found)
    assert len({change.words for change in found}) == len(found) <= explain.MOST_CHANGES
    about_the_site = not project and not owner and not TABLE[verb].own
    if before is Outcome.DENY and about_the_site and not roles & TENANTS and verb != MOVER.name:  # it is moved nowhere
        holders = TABLE[verb].roles - MACHINES - TENANTS
        assert bool(found) == bool(holders)
