import json
from datetime import UTC, datetime

from tests.gateway.stage import ASK, KEY, Stage, endpoint, key, snapshot


async def explain(gateway, body: bytes = ASK, **headers: str) -> dict:
    async with gateway.client() as client:
        reply = await client.post("/v1/explain-route", content=body, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


async def test_it_says_where_a_prompt_is_held_and_sends_nothing(stage: Stage):
    one, other = await stage.replica(name="one"), await stage.replica(name="other")
    gateway = await stage.gateway()
    own = endpoint("chat", (one.spec, other.spec)).model_copy(update={"exclusive": True, "project": "blue"})
    gateway.hub.adopt(snapshot(9, (), (key(KEY),)).model_copy(update={"endpoints": (own,)}))
    long = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x" * 9000}]}).encode()
    before = await explain(gateway, long)
    await gateway.chat(long)

    after = await explain(gateway, long)

    assert before["because"] == "nobody holds the prompt, and this is its home"
    assert after["chosen"] == before["chosen"]
    assert after["because"].startswith("it is believed to hold 8192 bytes")
    assert len(one.requests) + len(other.requests) == 1


async def test_it_knows_the_run_and_why_nobody_answers(stage: Stage):
    replica = await stage.replica(name="one")
    gateway = await stage.gateway(replica)
    run = {"X-Redoubt-Run": "run-1"}
    await gateway.chat(headers=run)
    newer = await stage.replica(name="newer")
    gateway.adopt(newer.spec.model_copy(update={"revision_id": "r2"}))

    pinned, free = await explain(gateway, ASK, **run), await explain(gateway)

    assert (pinned["chosen"], pinned["because"]) == (None, "the run's revision is no longer served")
    assert free["because"] == "there is no other replica"


async def test_a_key_that_may_not_use_the_endpoint_learns_nothing(stage: Stage):
    gateway = await stage.gateway(await stage.replica())
    gateway.adopt(keys=(key(KEY, endpoints=("hidden",)),))

    async with gateway.client() as client:
        reply = await client.post("/v1/explain-route", content=ASK)

    assert reply.status_code == 404


async def test_loads_of_others_are_told_in_powers_of_two_and_those_of_one_project_exactly(stage: Stage):
    one, other = await stage.replica(name="one"), await stage.replica(name="other")
    gateway = await stage.gateway(one, other)
    shared = endpoint("chat", (one.spec, other.spec))
    for replica in gateway.hub.directory(datetime.now(UTC)).endpoints["chat"].replicas:
        replica.standing.running, replica.standing.prefilling = 5, 20_001

    told = (await explain(gateway))["candidates"]
    gateway.hub.adopt(
        snapshot(9, (), (key(KEY),)).model_copy(
            update={"endpoints": (shared.model_copy(update={"exclusive": True, "project": "blue"}),)}
        )
    )
    exact = (await explain(gateway))["candidates"]

    assert [(one["running"], one["waiting_to_be_read_bytes"]) for one in told] == [(8, 32_768)] * 2
    assert not any("cost_bytes" in one for one in told)  # of a sum with one's own prompt, the rest could be found
    assert all(one["cost_bytes"] > 20_001 for one in exact)
    assert [(one["running"], one["waiting_to_be_read_bytes"]) for one in exact] == [(5, 20_001)] * 2
