"""Errors in the words of each dialect, and Anthropic's credential."""

import json

import pytest

from tests.gateway.stage import KEY, Call, Stage, endpoint, key, post, snapshot

MESSAGE = b'{"model":"chat","messages":[{"role":"user","content":"hello"}],"max_tokens":40}'
RESPONSE = b'{"model":"chat","input":"hello","max_output_tokens":40}'
STREAM = b',"stream":true}'


async def break_off(call: Call) -> None:
    await call.begin_stream()
    await call.chunk(b'event: ping\ndata: {"type":"ping"}\n\n')
    call.die()


async def test_a_message_is_refused_in_anthropics_shape(stage: Stage):
    gateway = await stage.gateway()
    async with gateway.client() as client:
        wrong = await client.post("/v1/messages", content=MESSAGE, headers={"authorization": "Bearer rdk_wrong"})
        nobody = await client.post("/v1/messages", content=MESSAGE.replace(b'"chat"', b'"nobody"'))
        empty = await client.post("/v1/messages/count_tokens", content=MESSAGE.replace(b',"max_tokens":40', b""))

    told = [(answer.status_code, answer.json()["error"]["type"]) for answer in (wrong, nobody, empty)]
    assert told == [(401, "authentication_error"), (404, "not_found_error"), (503, "overloaded_error")]
    assert nobody.json()["type"] == "error"
    assert nobody.json()["request_id"] == nobody.headers["x-request-id"]
    assert nobody.headers["x-redoubt-reason"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/v1/messages", MESSAGE, ("error", "type")),
        ("/v1/responses", RESPONSE, ("code",)),
    ],
)
async def test_a_stream_that_breaks_ends_with_the_error_event_of_its_dialect(stage, path, body, place):
    gateway = await stage.gateway(await stage.replica(break_off))
    ask = post(body[:-1] + STREAM).replace(b"/v1/chat/completions", path.encode())

    name, data = (await gateway.raw(ask)).decode().strip().splitlines()[-2:]
    told = json.loads(data.removeprefix("data: "))
    assert (name, told["type"]) == ("event: error", "error")
    for step in place:
        told = told[step]
    assert told in {"api_error", "replica_lost"}


async def test_a_key_may_come_as_anthropics_clients_send_it_and_nowhere_else(stage: Stage):
    gateway = await stage.gateway(await stage.replica())
    async with gateway.client() as client:
        del client.headers["authorization"]
        client.headers["x-api-key"] = KEY

        posted = [(await client.post(path, content=MESSAGE)).status_code for path in ("/v1/messages", "/v1/responses")]
        models = (await client.get("/v1/models/chat")).json()
        both = await client.post("/v1/messages", content=MESSAGE, headers={"authorization": f"Bearer {KEY}"})

        other = await client.post("/v1/messages", content=MESSAGE, headers={"api-key": "rdk_other"})

    assert other.status_code == 400
    assert posted == [200, 401]
    assert models["id"] == "chat"
    assert (both.status_code, both.json()["error"]["message"].split(";")[0]) == (
        400,
        "two credentials came with the request",
    )


async def test_the_bound_that_the_gateway_set_and_the_tokens_that_were_held_already_are_told(stage: Stage):
    usage = b'"usage":{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":8}}'

    async def tell(call: Call) -> None:
        await call.answer(b'{"choices":[],%b}' % usage)

    gateway = await stage.gateway(await stage.replica(tell))
    unbound, bound = await gateway.chat(b'{"model":"chat","messages":[{}]}'), await gateway.chat()

    assert unbound.headers["x-redoubt-max-tokens"] == "512"
    assert "x-redoubt-max-tokens" not in bound.headers
    assert bound.headers["x-redoubt-cached-tokens"] == "8"


async def test_an_engine_without_the_route_is_said_to_be_so(stage: Stage):
    async def knows_not(call: Call) -> None:
        await call.answer(b'{"error":{"message":"File Not Found"}}', status="404 Not Found")

    gateway = await stage.gateway(await stage.replica(knows_not))

    refused = await gateway.chat()

    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "surface_not_served")


async def test_a_shared_endpoint_does_only_what_its_engine_keeps_apart(stage: Stage):
    gateway = await stage.gateway(await stage.replica())
    shared = endpoint("chat", ()).model_copy(update={"adapter": "vllm", "surfaces": ("messages", "embeddings")})
    alone = shared.model_copy(update={"exclusive": True, "project": "blue"})
    told, kept_apart = [], []
    for one in (shared, alone):
        gateway.version += 1
        new = snapshot(gateway.version, (), (key(KEY),))
        gateway.hub.adopt(new.model_copy(update={"endpoints": (one,)}))
        async with gateway.client() as client:
            vectors = await client.post("/v1/embeddings", content=b'{"model":"chat","input":"hello"}')
            told.append(vectors.headers["x-redoubt-reason"])
            kept_apart.append((await client.post("/v1/messages", content=MESSAGE)).headers["x-redoubt-reason"])

    assert told == ["surface_not_served", "no_ready_replica"]
    assert kept_apart == ["no_ready_replica"] * 2
