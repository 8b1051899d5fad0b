from controlplane.contracts.snapshot import SnapshotShare
from controlplane.gateway.directory import read_directory
from controlplane.gateway.routing.isolation import salt_of
from tests.gateway.stage import KEY, Stage, endpoint, key, snapshot


async def test_an_exclusive_endpoint_does_not_exist_for_the_keys_of_other_projects(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)
    own = endpoint("chat", (replica.spec,)).model_copy(update={"exclusive": True, "project": "blue"})
    other = endpoint("hidden", (replica.spec,)).model_copy(update={"exclusive": True, "project": "red"})
    gateway.hub.adopt(snapshot(9, (replica.spec,), (key(KEY),)).model_copy(update={"endpoints": (own, other)}))

    let_in = await gateway.chat()
    kept_out = await gateway.chat(b'{"model":"hidden","messages":[{"role":"user","content":"x"}]}')
    async with gateway.client() as client:
        listed = (await client.get("/v1/models")).json()["data"]

    assert let_in.status_code == 200
    assert kept_out.json()["error"]["code"] == "model_not_found"
    assert [model["id"] for model in listed] == ["chat"]


async def test_a_team_counts_to_its_project():
    own = endpoint("chat", ()).model_copy(update={"exclusive": True, "project": "blue"})
    teams = (SnapshotShare(name="team", project="blue", team="team"), SnapshotShare(name="far", project="red"))
    read = read_directory(snapshot(1, (), ()).model_copy(update={"endpoints": (own,), "shares": teams}), {})
    of = {
        name: next(
            iter(read_directory(snapshot(1, (), (key(KEY).model_copy(update={"project": name}),)), {}).grants.values())
        )
        for name in ("team", "far", "blue")
    }

    opened = {name: read.opens(grant, read.endpoints["chat"]) for name, grant in of.items()}

    assert opened == {"team": True, "far": False, "blue": True}


async def test_prompts_are_divided_by_share_even_when_the_snapshot_has_no_salt():
    shares = (SnapshotShare(name="blue", salt="s1"), SnapshotShare(name="red", salt="s2"))
    read = read_directory(snapshot(1, (), ()).model_copy(update={"shares": shares}), {})

    assert len({salt_of(read, name) for name in ("blue", "red", "unknown", "other")}) == 4


async def test_only_the_exclusive_llama_cpp_reuses_prompts(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)
    own = endpoint("chat", (replica.spec,)).model_copy(update={"exclusive": True, "project": "blue"})

    await gateway.chat()
    gateway.hub.adopt(snapshot(9, (replica.spec,), (key(KEY),)).model_copy(update={"endpoints": (own,)}))
    await gateway.chat()

    assert [b'"cache_prompt":true' in request.body for request in replica.requests] == [False, True]


async def test_vllm_gets_the_salt_of_the_key_s_share(stage: Stage):
    replica = await stage.replica()
    gateway = await stage.gateway(replica)
    own = endpoint("chat", (replica.spec,)).model_copy(update={"adapter": "vllm"})
    update = {"endpoints": (own,), "shares": (SnapshotShare(name="blue", project="blue", salt="pepper"),)}
    gateway.hub.adopt(snapshot(9, (replica.spec,), (key(KEY),)).model_copy(update=update))

    await gateway.chat()

    assert b'"cache_salt":"pepper"' in replica.requests[0].body
