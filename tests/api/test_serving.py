import httpx
import pytest

from tests.support.control_plane import GIB, ControlPlane, make_manifest


@pytest.fixture
async def client(plane: ControlPlane, admin: str):
    async with plane.client(admin) as speaking:
        await speaking.put(
            "/nodes",
            json={
                "nodes": [
                    {
                        "name": "gpu1",
                        "address": "10.0.0.1",
                        "zone": "main",
                        "purposes": [],
                        "gpus": [{"type": "h100", "count": 2}],
                    }
                ]
            },
        )
        await plane.report("gpu1")
        await speaking.post("/models", json=make_manifest().model_dump())
        yield speaking


async def test_an_endpoint_of_an_unknown_model_is_refused_with_the_next_step(client: httpx.AsyncClient) -> None:
    answer = await client.post("/endpoints", json={"name": "chat", "config": {"model": "nobody"}})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_model")
    assert answer.json()["remedy"] == "redoubt model list"


async def test_an_endpoint_that_can_never_fit_is_refused_with_a_reason_per_node(client: httpx.AsyncClient) -> None:
    await client.post("/models", json=make_manifest("huge", weights=500 * GIB).model_dump())
    answer = await client.post("/endpoints", json={"name": "chat", "config": {"model": "huge", "gpus": 2}})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_fit")
    assert answer.json()["reasons"] == ["gpu1: 80.0 GiB a GPU, 251.0 GiB needed"]
    assert (await client.get("/endpoints")).json()["items"] == []


async def test_a_gpu_type_that_the_site_lacks_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/endpoints", json={"name": "chat", "config": {"model": "tiny", "gpu_type": "b300"}})
    assert answer.json()["reasons"] == ["gpu1: has h100, b300 asked"]
    assert "h100" in answer.json()["remedy"]


async def test_an_endpoint_in_a_zone_that_the_site_lacks_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/endpoints", json={"name": "chat", "zone": "moon", "config": {"model": "tiny"}})
    assert (answer.status_code, answer.json()["remedy"]) == (422, "choose one of main")


async def test_a_misspelt_field_is_named(client: httpx.AsyncClient) -> None:
    answer = await client.post("/endpoints", json={"name": "chat", "config": {"model": "tiny", "gpuz": 1}})
    assert answer.status_code == 422
    assert "config.gpuz" in answer.json()["reasons"][0]


async def test_two_endpoints_cannot_share_a_name(client: httpx.AsyncClient) -> None:
    body = {"name": "chat", "config": {"model": "tiny"}}
    await client.post("/endpoints", json=body)
    assert (await client.post("/endpoints", json=body)).status_code == 409


async def test_a_deleted_name_can_be_used_again(client: httpx.AsyncClient) -> None:
    body = {"name": "chat", "config": {"model": "tiny"}}
    await client.post("/endpoints", json=body)
    assert (await client.delete("/endpoints/chat")).status_code == 204
    assert (await client.post("/endpoints", json=body)).status_code == 201


async def test_a_list_goes_on_where_its_cursor_points(client: httpx.AsyncClient) -> None:
    for name in ("a", "b", "c"):
        await client.post("/endpoints", json={"name": name, "replicas": 0, "config": {"model": "tiny"}})
    first = (await client.get("/endpoints?limit=2")).json()
    rest = (await client.get(f"/endpoints?limit=2&cursor={first['cursor']}")).json()
    assert [e["name"] for e in (*first["items"], *rest["items"])] == ["a", "b", "c"]
    assert rest["cursor"] is None


async def test_a_revision_never_changes(plane: ControlPlane, client: httpx.AsyncClient) -> None:
    from sqlalchemy import text  # noqa: PLC0415 - only here
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - only here

    await client.post("/endpoints", json={"name": "chat", "config": {"model": "tiny"}})
    with pytest.raises(DBAPIError, match="never change"):
        async with plane.database.transaction() as tx:
            await tx.session.execute(text("update revisions set gpus = 2"))
