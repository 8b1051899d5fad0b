import asyncio

from tests.support.control_plane import ControlPlane, make_manifest


async def test_a_repeated_post_happens_once_and_is_answered_alike(plane: ControlPlane, admin: str) -> None:
    body, headers = make_manifest().model_dump(), {"Idempotency-Key": "k1"}
    async with plane.client(admin) as client:
        first = await client.post("/models", json=body, headers=headers)
        again = await client.post("/models", json=body, headers=headers)
        events = (await client.get("/audit-events")).json()["items"]
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert [e["event"] for e in events].count("model.registered") == 1


async def test_of_two_posts_at_once_with_one_key_one_happens(plane: ControlPlane, admin: str) -> None:
    headers = {"Idempotency-Key": "race"}
    async with plane.client(admin) as client:
        await client.post("/models", json=make_manifest().model_dump())
        body = {"name": "chat", "replicas": 0, "config": {"model": "tiny", "gpus": 0}}
        answers = await asyncio.gather(*(client.post("/endpoints", json=body, headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1


async def test_one_key_with_another_request_is_refused(plane: ControlPlane, admin: str) -> None:
    headers = {"Idempotency-Key": "k1"}
    async with plane.client(admin) as client:
        await client.post("/models", json=make_manifest().model_dump(), headers=headers)
        other = await client.post("/models", json=make_manifest("other").model_dump(), headers=headers)
    assert other.status_code == 409


async def test_a_repeated_key_creation_never_shows_the_secret_again(plane: ControlPlane, admin: str) -> None:
    body, headers = {"name": "app"}, {"Idempotency-Key": "k1"}
    async with plane.client(admin) as client:
        first = await client.post("/keys", json=body, headers=headers)
        again = await client.post("/keys", json=body, headers=headers)
    assert first.status_code == 201
    assert (again.status_code, "secret" in again.json()) == (409, False)
