"""Policy sets, approvals and access checks through the face: two people, the replay that is shown, and why."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text

from controlplane.domains.audit.types import Role
from tests.support.control_plane import ControlPlane
from tests.support.policy_sets import draft

NO_LEASES = '@id("nobody-reads-leases") forbid (principal, action == Action::"lease.read", resource);'
DRAFT = draft(NO_LEASES).model_dump(mode="json")


NODES = {"nodes": [{"name": "n1", "address": "10.0.0.1", "zone": "north", "purposes": ["compute"]}]}


async def send(plane: ControlPlane, who: str, method: str, path: str, body: object = None) -> httpx.Response:
    async with plane.client(who) as client:
        return await client.request(method, path, json=body)


async def published(plane: ControlPlane, admin: str, security: str) -> dict[str, Any]:
    """Go the whole way and return the proposal."""
    proposed = (await send(plane, admin, "POST", "/policy-sets", DRAFT)).json()
    version, approval = proposed["set"]["version"], proposed["approval_id"]
    assert (await send(plane, security, "POST", f"/approvals/{approval}/approve")).status_code == 200
    answer = await send(plane, admin, "POST", f"/policy-sets/{version}/publications", {"approval_id": approval})
    assert answer.status_code == 201, answer.text
    return proposed


async def test_two_people_publish_a_set_and_it_counts_at_once(plane: ControlPlane, admin: str):
    security = await plane.person(Role.SECURITY_ADMIN)
    assert (await send(plane, admin, "GET", "/leases")).status_code == 200

    proposed = await published(plane, admin, security)

    answer = await send(plane, admin, "GET", "/leases")
    assert (answer.status_code, answer.json()["code"]) == (403, "denied")
    assert answer.json()["remedy"] == "see why: redoubt policy explain me lease.read site"
    assert proposed["replay"]["groups"][0]["why"] == ["nobody-reads-leases"]
    assert proposed["replay"]["flipped"] == 1
    listed = (await send(plane, admin, "GET", "/policy-sets")).json()["items"]
    assert [(row["version"], row["in_force"]) for row in listed] == [(1, True)]
    history = (await send(plane, admin, "GET", "/policy-publications")).json()["items"]
    assert [(row["version"], row["flipped"]) for row in history] == [(1, 1)]


async def test_one_person_alone_publishes_nothing(plane: ControlPlane, admin: str):
    proposed = (await send(plane, admin, "POST", "/policy-sets", DRAFT)).json()
    approval = proposed["approval_id"]

    own = await send(plane, admin, "POST", f"/approvals/{approval}/approve")
    hasty = await send(plane, admin, "POST", "/policy-sets/1/publications", {"approval_id": approval})

    assert (own.status_code, hasty.status_code) == (403, 409)
    assert hasty.json()["code"] == "not_approved"


async def test_a_proposal_wants_a_fresh_second_factor(plane: ControlPlane):
    weak = await plane.person(Role.PLATFORM_ADMIN, strong=False)

    answer = await send(plane, weak, "POST", "/policy-sets", DRAFT)

    assert (answer.status_code, answer.json()["code"]) == (403, "step_up_required")


async def test_a_denied_request_is_a_recorded_decision_though_it_was_rolled_back(plane: ControlPlane, admin: str):
    auditor = await plane.person(Role.AUDITOR)
    assert (await send(plane, auditor, "PUT", "/nodes", NODES)).status_code == 403

    replay = (await send(plane, admin, "POST", "/policy-sets/0/replays")).json()

    async with plane.database.transaction() as tx:
        kept = text("select question ->> 'verb' from policy_decisions where outcome = 'deny'")
        assert (await tx.session.scalars(kept)).all() == ["node.declare"]
    assert replay["flipped"] == 0


async def test_the_current_set_can_be_proposed_again_as_it_is_shown(plane: ControlPlane, admin: str):
    shown = (await send(plane, admin, "GET", "/policy-sets/current")).json()

    again = {"note": "the same", "policies": shown["policies"], "examples": shown["examples"]}
    answer = await send(plane, admin, "POST", "/policy-checks", again)

    assert answer.status_code == 200, answer.text
    assert answer.json()["digest"] == shown["digest"]


async def test_a_broken_set_is_refused_with_every_finding(plane: ControlPlane, admin: str):
    broken = {**DRAFT, "policies": DRAFT["policies"] + 'permit (principal, action == Action::"no.verb", resource);'}

    answer = await send(plane, admin, "POST", "/policy-checks", broken)

    assert answer.status_code == 422
    assert [reason.partition(":")[0] for reason in answer.json()["reasons"]] == ["policy number 31"] * 3


async def test_an_answer_says_why_and_what_would_change_it(plane: ControlPlane, admin: str):
    ask = {"who": "bob", "roles": ["operator"], "verb": "node.declare", "resource": {"kind": "node", "id": "gpu1"}}

    answer = (await send(plane, admin, "POST", "/access-check", ask)).json()

    assert answer["outcome"] == "deny"
    assert [c["change"] for c in answer["changes"]] == [
        "with the role break-glass too",
        "with the role platform-admin too",
    ]


async def test_a_tenant_is_told_which_project_a_thing_is_of(plane: ControlPlane, admin: str):
    ask = {
        "who": "tim", "roles": ["tenant-admin"], "project": "blue", "verb": "api_key.create",
        "resource": {"kind": "key", "id": "k", "project": "red"},
    }  # fmt: skip

    answer = (await send(plane, admin, "POST", "/access-check", ask)).json()

    assert (answer["outcome"], answer["clauses"]) == ("deny", ["tenant"])
    assert "as a principal of project red" in {c["change"] for c in answer["changes"]}


async def test_everyone_may_ask_about_themselves_and_few_about_others(plane: ControlPlane):
    tenant = await plane.person(Role.TENANT_USER, project="blue")
    ask = {"verb": "model.read", "resource": {"kind": "model", "id": "m"}}

    own = await send(plane, tenant, "POST", "/access-check", ask)
    other = await send(plane, tenant, "POST", "/access-check", {**ask, "who": "ada", "roles": ["operator"]})

    assert (own.status_code, own.json()["outcome"]) == (200, "allow")
    assert other.status_code == 403


async def test_a_known_person_is_asked_about_by_name(plane: ControlPlane, admin: str):
    await plane.person(Role.DATA_STEWARD, name="dora")

    answer = (await send(plane, admin, "POST", "/access-check", {"who": "dora", "verb": "node.read"})).json()

    assert (answer["roles"], answer["outcome"], answer["policies"]) == (["data-steward"], "allow", ["data-steward"])


@pytest.mark.parametrize("path", ["/verbs", "/policy-sets", "/policy-sets/0", "/policy-publications", "/approvals"])
async def test_an_auditor_reads_all_of_it(plane: ControlPlane, path: str):
    auditor = await plane.person(Role.AUDITOR)

    assert (await send(plane, auditor, "GET", path)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/policy-sets", DRAFT),
        ("/policy-sets/0/proposals", {"reason": "back"}),
        ("/policy-sets/0/publications", {"approval_id": "x"}),
        ("/approvals", {"action": "policy.publish", "subject": {}, "reason": "why"}),
        ("/approvals/x/approve", None),
        ("/approvals/x/refuse", None),
    ],
)
async def test_an_auditor_changes_none_of_it(plane: ControlPlane, path: str, body: object):
    auditor = await plane.person(Role.AUDITOR)

    assert (await send(plane, auditor, "POST", path, body)).status_code == 403


async def test_the_shipped_set_comes_back_by_two_people(plane: ControlPlane, admin: str):
    security = await plane.person(Role.SECURITY_ADMIN)
    await published(plane, admin, security)

    back = (await send(plane, security, "POST", "/policy-sets/0/proposals", {"reason": "too strict"})).json()
    second = await plane.person(Role.SECURITY_ADMIN)
    await send(plane, second, "POST", f"/approvals/{back['approval_id']}/approve")
    ask = {"approval_id": back["approval_id"]}
    assert (await send(plane, security, "POST", "/policy-sets/0/publications", ask)).status_code == 201

    assert (await send(plane, admin, "GET", "/leases")).status_code == 200
