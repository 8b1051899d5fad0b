"""Cedar fails open where it is asked carelessly; what is asked here fails closed."""

import json
from dataclasses import replace
from typing import Any

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules import cedar, decision
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.types import BrokenPolicies, Outcome, Question, Resource

PERMIT = '@id("all") permit (principal, action, resource);'
ABROAD = '@id("home") forbid (principal, action, resource) unless { resource.jurisdictions.contains("DE") };'
ENGINE = cedar.load(PERMIT + ABROAD, VERBS)
ASKED = Question(
    "ann", frozenset({Role.OPERATOR}), "", "endpoint.read", Resource("endpoint", "e", jurisdictions=frozenset({"DE"}))
)


def test_without_a_schema_a_forbid_that_errs_is_skipped_and_the_answer_is_yes():
    """The hole (reference finding 1), shown in the library itself, so that this file says what it closes."""
    request = {"principal": 'Principal::"ann"', "action": 'Action::"endpoint.read"', "resource": 'Resource::"e"'}
    entities: list[dict[str, Any]] = [{"uid": {"type": "Resource", "id": "e"}, "attrs": {}, "parents": []}]

    open_answer = cedarpy.is_authorized(request, PERMIT + ABROAD, entities)

    assert open_answer.allowed
    assert open_answer.diagnostics.errors
    schema = cedar.to_schema(VERBS)
    assert not cedarpy.is_authorized(request, PERMIT + ABROAD, entities, schema).allowed


@pytest.mark.parametrize("missing", ["jurisdictions", "classification", "zone", "project", "kind", "name"])
def test_an_attribute_that_is_missing_is_a_denial(missing: str, monkeypatch: pytest.MonkeyPatch):
    whole = cedar._entities  # noqa: SLF001 - the entities are made incomplete on purpose

    def incomplete(question: Question) -> list[dict[str, object]]:
        entities = json.loads(json.dumps(whole(question)))
        del entities[1]["attrs"][missing]
        return list(entities)

    assert cedar.ask(ENGINE, ASKED).allowed
    monkeypatch.setattr(cedar, "_entities", incomplete)

    answer = cedar.ask(ENGINE, ASKED)

    assert not answer.allowed
    assert answer.errors
    assert decision.decide(ENGINE, ASKED).outcome is Outcome.DENY


@pytest.mark.parametrize("missing", ["second_factor", "stepped_up", "method", "hour", "weekday"])
def test_a_context_that_is_not_whole_is_a_denial(missing: str, monkeypatch: pytest.MonkeyPatch):
    whole = cedar._request  # noqa: SLF001 - the same

    def incomplete(question: Question) -> dict[str, object]:
        request = whole(question)
        context = json.loads(str(request["context"]))
        del context[missing]
        return {**request, "context": json.dumps(context)}

    monkeypatch.setattr(cedar, "_request", incomplete)

    assert not cedar.ask(ENGINE, ASKED).allowed


def test_a_policy_that_errs_while_it_is_asked_denies_though_another_permits():
    overflow = (
        '@id("sum") forbid (principal, action, resource) when { resource.classification + 9223372036854775807 > 0 };'
    )
    engine = cedar.load(PERMIT + overflow, VERBS)
    asked = replace(ASKED, resource=replace(ASKED.resource, classification=2))

    answer = cedar.ask(engine, asked)

    assert answer.errors
    assert not answer.allowed


@pytest.mark.parametrize("wrong", [{"classification": "0"}, {"classification": 2**70}, {"zone": None}, {"kind": 7}])
def test_a_value_of_another_type_is_a_denial(wrong: dict[str, Any]):
    asked = replace(ASKED, resource=replace(ASKED.resource, **wrong))

    answer = cedar.ask(ENGINE, asked)

    assert not answer.allowed
    assert answer.errors


def test_schema_drift_is_found_when_a_set_is_loaded_and_not_when_it_is_asked():
    text = '@id("x") permit (principal, action == Action::"endpoint.read", resource);'
    cedar.load(text, VERBS)
    later = {name: verb for name, verb in VERBS.items() if name != "endpoint.read"}

    with pytest.raises(BrokenPolicies, match=r"endpoint\.read"):
        cedar.load(text, later)


def test_another_table_of_verbs_is_another_digest():
    later = {name: verb for name, verb in VERBS.items() if name != "endpoint.read"}

    assert cedar.load(PERMIT, VERBS).digest != cedar.load(PERMIT, later).digest


odd = st.text(st.characters(codec="utf-8"), max_size=40)


@given(actor=odd, name=odd, project=odd, zone=odd, method=odd, source=odd, country=odd)
def test_no_text_of_a_question_is_ever_read_as_anything_but_text(
    actor: str, name: str, project: str, zone: str, method: str, source: str, country: str
):
    thing = Resource("endpoint", name, project, zone, 0, frozenset({"DE", country}))
    asked = replace(ASKED, actor=actor, resource=thing, method=method, source=source)

    answer = cedar.ask(ENGINE, asked)

    assert answer.errors == ()
    assert answer.allowed
    assert not cedar.ask(ENGINE, replace(asked, resource=replace(thing, jurisdictions=frozenset({"FR"})))).allowed


@given(actor=odd, name=odd, project=odd, roles=st.frozensets(st.sampled_from(sorted(Role))))
def test_a_recorded_question_is_the_question_again(actor: str, name: str, project: str, roles: frozenset[Role]):
    asked = replace(ASKED, actor=actor, roles=roles, project=project, resource=replace(ASKED.resource, id=name))
    data = json.loads(json.dumps(decision.to_data(asked)))

    assert decision.from_data(data) == asked
    assert decision.digest_of(asked) == decision.digest_of(decision.from_data(data))


@given(st.lists(odd, min_size=2, max_size=2, unique=True))
def test_questions_that_differ_in_one_text_never_share_an_answer(names: list[str]):
    first, second = (replace(ASKED, actor=name) for name in names)

    assert decision.digest_of(first) != decision.digest_of(second)


def test_answers_are_kept_up_to_a_bound_and_are_those_of_the_question(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decision, "MOST_ANSWERS", 10)
    decider = decision.Decider(ENGINE)
    abroad = replace(ASKED, resource=replace(ASKED.resource, jurisdictions=frozenset({"FR"})))

    for number in range(50):
        assert decider.answer(replace(ASKED, actor=f"a{number}")).outcome is Outcome.ALLOW
        assert decider.answer(replace(abroad, actor=f"a{number}")).outcome is Outcome.DENY

    assert len(decider._answers) == 10  # noqa: SLF001 - the bound is what is asserted
