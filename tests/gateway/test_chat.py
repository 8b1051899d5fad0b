"""What a client sees when all goes well, and when it asks for what it may not have."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.gateway.stage import ASK, COMPLETION, KEY, STREAMED, Stage, key


async def test_a_plain_completion_passes_both_ways_byte_for_byte(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)

    response = await gateway.chat()

    assert response.status_code == 200
    assert response.content == COMPLETION
    assert replica.requests[0].body == ASK


async def test_a_stream_arrives_event_by_event_with_its_end(stage: Stage):
    gateway = await stage.gateway(await stage.replica())

    response = await gateway.chat(STREAMED)

    assert response.headers["content-type"].startswith("text/event-stream")
    words = [line for line in response.text.splitlines() if line]
    assert [word for word in ("one", "two", "three") if word in response.text] == ["one", "two", "three"]
    assert words[-1] == "data: [DONE]"


async def test_the_answer_names_endpoint_revision_zone_and_request_and_nothing_of_the_engine(stage: Stage):
    gateway = await stage.gateway(await stage.replica())

    for body in (ASK, STREAMED):
        response = await gateway.chat(body)

        ours = {"x-redoubt-endpoint": "chat", "x-redoubt-revision": "revision_chat", "x-redoubt-zone": "eu-north"}
        assert {name: response.headers[name] for name in ours} == ours
        assert response.headers["x-request-id"].startswith("req_")
        assert "server" not in response.headers
        assert "secret-engine" not in str(response.headers)


async def test_the_engine_sees_no_key_and_no_header_of_the_client(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)

    await gateway.chat(ASK, {"x-secret": "mine", "cookie": "a=b"})

    head = replica.requests[0].head.lower()
    assert b"rdk_" not in head
    assert b"mine" not in head
    assert b"cookie" not in head


async def test_one_link_to_the_replica_serves_one_request_after_the_other(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)

    async with gateway.client() as client:
        for body in (ASK, STREAMED, ASK):
            assert (await client.post("/v1/chat/completions", content=body)).status_code == 200

    assert (replica.connections, len(replica.requests)) == (1, 3)


async def test_models_are_listed_as_far_as_the_key_reaches(stage: Stage):
    gateway = await stage.gateway()
    gateway.adopt(keys=(key(KEY, endpoints=("chat",)), key("rdk_all")))

    async with gateway.client() as client:
        some = (await client.get("/v1/models")).json()
        every = (await client.get("/v1/models", headers={"authorization": "Bearer rdk_all"})).json()

    assert [model["id"] for model in some["data"]] == ["chat"]
    assert [model["id"] for model in every["data"]] == ["chat", "hidden", "empty"]
    of_openai = {"id": "chat", "created": 1767225600, "object": "model", "owned_by": "redoubt"}
    of_anthropic = {"display_name": "chat", "created_at": "2026-01-01T00:00:00Z", "type": "model"}
    surfaces = ["chat", "completions", "responses", "tokenize", "messages", "count_tokens"]
    assert some["data"][0] == of_openai | of_anthropic | {"max_model_len": 512, "surfaces": surfaces}


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic cmRr", "Bearer", "Bearer rdk_old"])
async def test_a_missing_wrong_or_expired_key_is_401(stage: Stage, header: str):
    gateway = await stage.gateway(await stage.replica())
    gateway.adopt(keys=(key(KEY), key("rdk_old", expires_at=datetime.now(UTC) - timedelta(seconds=1))))

    for path in ("/v1/chat/completions", "/v1/models"):
        async with gateway.client() as client:
            client.headers["authorization"] = header
            response = await client.request("GET" if path.endswith("models") else "POST", path, content=ASK)

        assert response.status_code == 401
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] in {"invalid_api_key", "expired_api_key"}


async def test_a_forbidden_model_and_a_missing_one_look_the_same(stage: Stage):
    gateway = await stage.gateway(await stage.replica())
    gateway.adopt(keys=(key(KEY, endpoints=("chat",)),))

    forbidden = await gateway.chat(ASK.replace(b'"chat"', b'"hidden"'))
    missing = await gateway.chat(ASK.replace(b'"chat"', b'"nobody"'))

    assert (forbidden.status_code, missing.status_code) == (404, 404)
    assert forbidden.text.replace("hidden", "X") == missing.text.replace("nobody", "X")
    assert forbidden.json()["error"]["code"] == "model_not_found"
    assert "GET /v1/models" in forbidden.json()["error"]["message"]


async def test_an_endpoint_without_a_ready_replica_is_503_and_says_when_to_come_back(stage: Stage):
    gateway = await stage.gateway()

    response = await gateway.chat(ASK.replace(b'"chat"', b'"empty"'))

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["error"]["code"] == "no_ready_replica"


@pytest.mark.parametrize("field", ["cache_salt", "priority", "kv_transfer_params", "id_slot", "frobnicate"])
async def test_a_field_that_is_not_for_clients_is_refused_by_name(stage: Stage, field: str):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)

    response = await gateway.chat(ASK[:-1] + b',"%b":1}' % field.encode())

    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
    assert field in response.json()["error"]["message"]
    assert replica.requests == []


async def test_what_the_engine_says_about_a_wrong_request_reaches_the_client_in_our_shape(stage: Stage):
    async def refuse(call):
        await call.answer(
            b'{"error":{"code":400,"message":"too many tokens","type":"exceed","slot":3}}', "400 Bad Request"
        )

    gateway = await stage.gateway(await stage.replica(refuse))

    response = await gateway.chat()

    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("too many tokens")
    assert "slot" not in response.text


async def test_health_needs_no_key_and_ready_needs_a_valid_snapshot(stage: Stage):
    gateway = await stage.gateway()

    async with gateway.client() as client:
        del client.headers["authorization"]
        before = [(await client.get(path)).status_code for path in ("/livez", "/readyz")]
        gateway.adopt(expires_in_s=-1)
        after = [(await client.get(path)).status_code for path in ("/livez", "/readyz")]

    assert (before, after) == ([200, 200], [200, 503])


async def test_an_expired_snapshot_stops_every_service_and_says_why(stage: Stage):
    gateway = await stage.gateway(await stage.replica())
    gateway.adopt(expires_in_s=-1)

    response = await gateway.chat()

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "no_valid_snapshot"
    assert "expired" in response.json()["error"]["message"]


async def test_requests_spread_over_replicas_that_are_equally_busy(stage: Stage):
    replicas = [await stage.replica(name=f"replica_{n}") for n in range(3)]
    gateway = await stage.gateway(*replicas)

    for _ in range(9):
        await gateway.chat()

    assert [len(replica.requests) for replica in replicas] == [3, 3, 3]
