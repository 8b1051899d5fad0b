"""What a key is bound to holds at the gateway's door, from the snapshot alone."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.gateway.stage import ASK, KEY, Gateway, ScriptedReplica, Stage, key, post


@pytest.fixture
async def replica(stage: Stage) -> ScriptedReplica:
    return await stage.replica()


@pytest.fixture
async def gateway(stage: Stage, replica: ScriptedReplica) -> Gateway:
    return await stage.gateway(replica)


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


async def test_a_key_with_one_purpose_needs_no_header_and_no_other_purpose_is_taken(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, purposes=("support",)),))

    assert (await gateway.chat()).status_code == 200
    assert (await gateway.chat(headers={"X-Redoubt-Purpose": "support"})).status_code == 200
    refused = await gateway.chat(headers={"X-Redoubt-Purpose": "profiling"})
    assert (refused.status_code, code(refused)) == (403, "purpose_not_allowed")
    assert len(replica.requests) == 2


async def test_a_key_with_two_purposes_must_be_told_which(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, purposes=("support", "search")),))

    unsaid = await gateway.chat()
    assert (unsaid.status_code, code(unsaid)) == (403, "purpose_missing")
    assert (await gateway.chat(headers={"x-redoubt-purpose": "search"})).status_code == 200


@pytest.mark.parametrize(
    ("asked", "status"),
    [("public", 200), ("internal", 200), ("confidential", 403), ("secret", 403), ("Internal", 403), ("1", 403)],
)
async def test_a_key_carries_nothing_above_its_classification(gateway, replica, asked, status):
    gateway.adopt(replica.spec, keys=(key(KEY, classification=1),))

    assert (await gateway.chat(headers={"X-Redoubt-Classification": asked})).status_code == status


async def test_a_key_of_another_zone_finds_no_model_and_is_told_of_none(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, zones=("south",)),))

    assert code(await gateway.chat()) == "model_not_found"
    async with gateway.client() as client:
        assert (await client.get("/v1/models")).json()["data"] == []


@pytest.mark.parametrize(
    ("sources", "status"), [(("127.0.0.0/8",), 200), (("10.0.0.0/8", "127.0.0.1/32"), 200), (("10.0.0.0/8",), 403)]
)
async def test_a_key_comes_only_from_its_networks_whatever_a_header_claims(gateway, replica, sources, status):
    gateway.adopt(replica.spec, keys=(key(KEY, sources=sources),))

    answer = await gateway.chat(headers={"X-Forwarded-For": "10.0.0.1", "Forwarded": "for=10.0.0.1"})
    assert answer.status_code == status
    async with gateway.client() as client:
        assert (await client.get("/v1/models")).status_code == status


async def test_both_secrets_of_a_key_count_until_one_has_ended(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, "rdk_next"),))
    assert (await gateway.chat(headers={"authorization": "Bearer rdk_next"})).status_code == 200
    assert (await gateway.chat()).status_code == 200

    gateway.adopt(replica.spec, keys=(key("rdk_next"),))

    assert (await gateway.chat()).status_code == 401
    assert (await gateway.chat(headers={"authorization": "Bearer rdk_next"})).status_code == 200


async def test_a_secret_ends_at_its_time_with_no_new_snapshot(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, expires_at=datetime.now(UTC) - timedelta(seconds=1)),))

    assert code(await gateway.chat()) == "expired_api_key"


@pytest.mark.parametrize(
    "second",
    [b"X-API-Key: " + KEY.encode(), b"api-key: other", b"x-api-key:", b"Authorization: Bearer rdk_other"],
)
async def test_two_credentials_in_one_request_are_refused_even_when_they_agree(gateway, replica, second):
    answer = await gateway.raw(post(ASK, second, b"Connection: close"))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert replica.requests == []


async def test_a_key_in_another_header_than_authorization_is_no_key(gateway, replica):
    raw = post(ASK, b"Connection: close").replace(b"Authorization: Bearer ", b"X-API-Key: ")

    assert (await gateway.raw(raw)).startswith(b"HTTP/1.1 401 ")


async def test_a_purpose_that_comes_twice_is_refused(gateway, replica):
    answer = await gateway.raw(post(ASK, b"X-Redoubt-Purpose: general", b"x-redoubt-purpose: general"))

    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_on_one_connection_every_request_is_judged_by_its_own_headers(gateway, replica):
    gateway.adopt(replica.spec, keys=(key(KEY, purposes=("support", "search")),))
    async with gateway.client() as client:
        statuses = [
            (await client.post("/v1/chat/completions", content=ASK, headers={"X-Redoubt-Purpose": word})).status_code
            for word in ("support", "other", "search", "", "support")
        ]

    assert statuses == [200, 403, 200, 403, 200]
