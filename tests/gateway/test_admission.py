"""Residency and access at the door: the same rules as in the control plane, and the refusal names the one that held."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.snapshot import SnapshotReplica
from controlplane.domains.policy.rules import cedar
from controlplane.domains.policy.rules.decision import decide
from controlplane.domains.policy.rules.shipped import shipped_policies
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.types import Outcome
from controlplane.gateway.admission import Judge, admit, to_question
from controlplane.gateway.directory import Directory, Endpoint, Grant, Terms, read_directory
from controlplane.gateway.errors import NotHere
from controlplane.gateway.request import Work
from tests.gateway.stage import ASK, KEY, Gateway, Stage, endpoint, key, snapshot

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
SHIPPED = shipped_policies()
NIGHT = SHIPPED + '\n@id("closed-at-night")\nforbid (principal, action, resource) when { context.hour >= 22 };\n'
OWN_NET = SHIPPED + (
    '\n@id("own-network")\nforbid (principal, action, resource)\n'
    'unless { context has source && context.source.isInRange(ip("10.0.0.0/8")) };\n'
)


def directory(policies: str | None = SHIPPED, *, jurisdiction="DE", clearance=1, **bounds) -> Directory:
    made = snapshot(1, (), (key(KEY, classification=3).model_copy(update=bounds),))
    placed = endpoint("chat", ()).model_copy(update={"jurisdiction": jurisdiction, "clearance": clearance})
    return read_directory(made.model_copy(update={"policies": policies, "endpoints": (placed,)}), {})


def parts(made: Directory) -> tuple[Grant, Endpoint]:
    return next(iter(made.grants.values())), made.endpoints["chat"]


def ask(made: Directory, level: int = 1, *, source: str = "10.1.2.3", now: datetime = NOW) -> None:
    grant, at = parts(made)
    admit(made, grant, Terms("general", level), at, source=source, now=now)


@pytest.mark.parametrize("policies", [SHIPPED, None], ids=["with policies", "constitution alone"])
def test_data_goes_up_to_the_clearance_of_the_zone_and_no_further(policies):
    made = directory(policies, clearance=1)

    ask(made, 1)
    with pytest.raises(NotHere, match="classification") as refused:
        ask(made, 2)

    assert (refused.value.status, refused.value.code) == (451, "classification_not_allowed_there")


@pytest.mark.parametrize("policies", [SHIPPED, None], ids=["with policies", "constitution alone"])
def test_a_key_with_jurisdictions_reaches_zones_of_those_alone(policies):
    ask(directory(policies, jurisdiction="DE", jurisdictions=("AT", "DE")))

    with pytest.raises(NotHere, match="jurisdiction") as refused:
        ask(directory(policies, jurisdiction="FR", jurisdictions=("AT", "DE")))
    assert refused.value.code == "jurisdiction_not_allowed"
    with pytest.raises(NotHere):
        ask(directory(policies, jurisdiction="", jurisdictions=("AT", "DE")))


def test_the_site_s_own_policy_is_asked_and_named():
    late = NOW.replace(hour=23)
    made = directory(NIGHT)
    ask(made)

    with pytest.raises(NotHere, match="closed-at-night") as refused:
        ask(made, now=late)

    assert refused.value.code == "policy_denied"
    ask(made)
    ask(directory(), now=late)


def test_a_policy_on_addresses_judges_each_address():
    made = directory(OWN_NET)
    ask(made)

    with pytest.raises(NotHere, match="own-network"):
        ask(made, source="192.0.2.1")
    ask(made)


def test_a_set_that_permits_nothing_lets_nobody_in():
    with pytest.raises(NotHere, match="no policy"):
        ask(directory(""))


def test_a_new_snapshot_is_judged_anew():
    ask(directory(clearance=2), 2)
    with pytest.raises(NotHere):
        ask(directory(clearance=1), 2)
    ask(directory(clearance=2), 2)


places = st.tuples(st.sampled_from(["", "DE", "FR"]), st.integers(0, 3), st.integers(0, 3))


@given(
    place=places, wanted=st.sampled_from([(), ("DE",), ("DE", "FR")]), project=st.sampled_from(["", "blue"]),
    hour=st.integers(0, 23), policies=st.sampled_from([SHIPPED, NIGHT]),
)  # fmt: skip
def test_the_door_says_what_the_control_plane_would_say(place, wanted, project, hour, policies):
    jurisdiction, clearance, level = place
    made = directory(policies, jurisdiction=jurisdiction, clearance=clearance, jurisdictions=wanted, project=project)
    grant, at = parts(made)
    terms, now = Terms("general", level), NOW.replace(hour=hour)

    said = decide(ENGINES[policies], to_question(grant, terms, at, "10.1.2.3", now)).outcome
    try:
        Judge(policies).admit(grant, terms, at, "10.1.2.3", now)
    except NotHere:
        assert said is not Outcome.ALLOW
    else:
        assert said is Outcome.ALLOW


ENGINES = {text: cedar.load(text, VERBS) for text in (SHIPPED, NIGHT)}


def test_a_key_s_class_bounds_what_its_requests_ask_for():
    grant, _ = parts(directory(priority="standard"))

    assert [grant.bounded(Work(priority=asked)).priority for asked in ("interactive", "standard", "batch")] == [
        "standard", "standard", "batch",
    ]  # fmt: skip
    assert replace(grant, priority="batch").bounded(Work(workflow="w")) == Work(workflow="w", priority="batch")


async def test_a_request_that_may_not_go_there_reaches_no_replica_and_is_on_record(stage: Stage):
    replica = await stage.replica()
    gateway: Gateway = await stage.gateway(replica)
    low(gateway, replica.spec)

    refused = await gateway.chat(headers={"X-Redoubt-Classification": "confidential"})
    allowed = await gateway.chat(headers={"X-Redoubt-Classification": "public"})

    assert (refused.status_code, allowed.status_code) == (451, 200)
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("classification_not_allowed_there", "permission_error")
    assert "classification" in error["message"]
    assert refused.headers["x-redoubt-reason"] == "classification_not_allowed_there"
    assert len(replica.requests) == 1
    assert [note.code for note in gateway.journal.notes if note not in gateway.journal.outcomes] == [error["code"]]


def low(gateway: Gateway, spec: SnapshotReplica) -> None:
    made = snapshot(9, (spec,), (key(KEY, classification=3),))
    placed = tuple(one.model_copy(update={"clearance": 1}) for one in made.endpoints)
    gateway.hub.adopt(made.model_copy(update={"endpoints": placed, "policies": SHIPPED}))


async def test_the_class_of_the_key_is_what_the_line_says(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)
    gateway.adopt(replica.spec, keys=(key(KEY).model_copy(update={"priority": "batch"}),))

    await gateway.chat(ASK, headers={"X-Redoubt-Priority": "interactive"})

    assert [intent.priority for intent in gateway.journal.intents] == ["batch"]
