"""Inference keys through the admin API, into the gateway's snapshot."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from controlplane.contracts.snapshot import Snapshot, SnapshotKey
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.keys import service as keys
from controlplane.domains.keys.types import Bounds, Use
from controlplane.domains.serving.service import snapshots
from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import NotFound
from controlplane.kit.paging import Page
from tests.support.control_plane import SITE, ControlPlane

GATEWAY = Actor("gateway", Role.GATEWAY)
OPEN = Bounds(project="", endpoints=(), zones=(), purposes=("general",), classification=1, sources=())


async def create(plane: ControlPlane, admin: str, **asked: object) -> dict:
    async with plane.client(admin) as client:
        answer = await client.post("/keys", json={"name": "app", **asked})
    assert answer.status_code == httpx.codes.CREATED, answer.text
    return answer.json()


async def rotate(plane: ControlPlane, admin: str, key_id: str, **asked: object) -> httpx.Response:
    async with plane.client(admin) as client:
        return await client.post(f"/keys/{key_id}/secrets", json=asked)


async def published(plane: ControlPlane) -> tuple[SnapshotKey, ...]:
    signer = Ed25519PrivateKey.generate()
    async with plane.database.transaction() as tx:
        await snapshots.publish_snapshot(tx, SYSTEM, site=SITE, key=signer, lifetime=timedelta(hours=1))
    async with plane.database.transaction() as tx:
        newest = await snapshots.newest_snapshot(tx, GATEWAY, after=0)
    assert newest is not None
    return Snapshot.model_validate_json(newest.payload).keys


def live(keys: tuple[SnapshotKey, ...]) -> list[str]:
    return sorted(secret.sha256 for key in keys for secret in key.secrets)


def digest(made: dict) -> str:
    return sha256_hex(made["secret"].encode())


async def test_a_key_lives_90_days_unless_told_and_never_over_a_year(plane: ControlPlane, admin: str):
    made = await create(plane, admin)

    key = made["key"]
    lasts = datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])
    assert (lasts, key["purposes"], key["classification"]) == (timedelta(days=90), ["general"], "internal")
    async with plane.client(admin) as client:
        for days in (0, 366):
            assert (await client.post("/keys", json={"name": "app", "days": days})).status_code == 422


async def test_what_a_key_is_bound_to_reaches_the_gateway_whole(plane: ControlPlane, admin: str):
    bounds = {
        "project": "blue",
        "endpoints": ["chat"],
        "zones": ["north"],
        "purposes": ["support", "search"],
        "classification": "confidential",
        "sources": ["2001:db8::/32", "10.0.0.0/8"],
    }

    made = await create(plane, admin, **bounds)

    (key,) = await published(plane)
    assert key.key_id == made["key"]["id"]
    assert key.project == "blue"
    assert (key.endpoints, key.zones, key.purposes) == (("chat",), ("north",), ("search", "support"))
    assert (key.classification, key.sources) == (2, ("10.0.0.0/8", "2001:db8::/32"))
    assert live((key,)) == [digest(made)]


@pytest.mark.parametrize("source", ["10.0.0.1/8", "example", "10.0.0.0/33", ""])
async def test_a_source_that_is_no_network_is_refused(plane: ControlPlane, admin: str, source: str):
    async with plane.client(admin) as client:
        answer = await client.post("/keys", json={"name": "app", "sources": [source]})
    assert answer.status_code == 422


async def test_rotation_leaves_two_secrets_and_the_old_one_ends_when_told(plane: ControlPlane, admin: str):
    first = await create(plane, admin)
    ends_at = plane.clock.now() + timedelta(hours=1)

    second = (await rotate(plane, admin, first["key"]["id"], old_ends_at=ends_at.isoformat())).json()

    assert live(await published(plane)) == sorted([digest(first), digest(second)])
    plane.clock.move(3601)
    assert live(await published(plane)) == [digest(second)]


async def test_one_secret_is_revoked_and_the_other_goes_on(plane: ControlPlane, admin: str):
    first = await create(plane, admin)
    second = (await rotate(plane, admin, first["key"]["id"], days=30)).json()

    async with plane.client(admin) as client:
        answer = await client.delete(f"/keys/{first['key']['id']}/secrets/{first['secret_id']}")

    assert answer.status_code == 200
    assert live(await published(plane)) == [digest(second)]


async def test_a_third_live_secret_is_refused_even_when_six_ask_at_once(plane: ControlPlane, admin: str):
    made = await create(plane, admin)

    answers = await asyncio.gather(*(rotate(plane, admin, made["key"]["id"]) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]
    assert "revoke-secret" in answers[-1].json()["remedy"] or answers[-1].status_code == 201
    assert len(live(await published(plane))) == 2


async def test_a_slot_is_free_again_after_its_secret_ran_out(plane: ControlPlane, admin: str):
    made = await create(plane, admin, days=1)
    key_id = made["key"]["id"]
    assert (await rotate(plane, admin, key_id, days=100)).status_code == 201
    plane.clock.move(2 * 86400)

    assert (await rotate(plane, admin, key_id)).status_code == 201


async def test_a_revoked_key_is_gone_from_the_snapshot_and_cannot_be_rotated(plane: ControlPlane, admin: str):
    made = await create(plane, admin)
    async with plane.client(admin) as client:
        assert (await client.delete(f"/keys/{made['key']['id']}")).json()["revoked_at"] is not None

    assert await published(plane) == ()
    assert (await rotate(plane, admin, made["key"]["id"])).status_code == 409


async def test_last_used_moves_forwards_and_coarsely(plane: ControlPlane, admin: str):
    made = await create(plane, admin)
    at = datetime(2030, 1, 1, tzinfo=UTC)

    async def use(moved_s: float) -> str:
        async with plane.database.transaction() as tx:
            uses = [Use(made["secret_id"], at + timedelta(seconds=moved_s))]
            await keys.record_uses(tx, GATEWAY, uses=uses)
        async with plane.client(admin) as client:
            return str((await client.get(f"/keys/{made['key']['id']}")).json()["last_used_at"])

    assert [await use(s) for s in (0, 59, 61, -900)] == [
        "2030-01-01T00:00:00Z",
        "2030-01-01T00:00:00Z",
        "2030-01-01T00:01:01Z",
        "2030-01-01T00:01:01Z",
    ]


async def test_a_tenant_neither_sees_nor_touches_a_key_of_another_project(plane: ControlPlane, admin: str):
    made = await create(plane, admin, project="blue")
    red = Actor("user_red", Role.TENANT_ADMIN, project="red")
    key_id = made["key"]["id"]

    async with plane.database.transaction() as tx:
        assert await keys.list_keys(tx, red, page=Page(limit=10, after=None)) == []
        for verb in (
            keys.get_key(tx, red, key_id=key_id),
            keys.revoke_key(tx, red, key_id=key_id),
            keys.revoke_secret(tx, red, key_id=key_id, secret_id=made["secret_id"]),
            keys.rotate_key(tx, red, key_id=key_id, lifetime=None, old_ends_at=None),
            keys.create_key(
                tx, red, name="x", lifetime=timedelta(days=1), bounds=Bounds("blue", (), (), ("general",), 1, ())
            ),
        ):
            with pytest.raises(NotFound):
                await verb
    assert len(await published(plane)) == 1


async def test_no_secret_of_a_key_is_kept_anywhere(plane: ControlPlane, admin: str):
    made = await create(plane, admin)
    async with plane.database.transaction() as tx:
        tables = ("inference_keys", "inference_key_secrets", "audit_events", "idempotent_calls")
        rows = [
            row
            for table in tables
            for row in (await tx.session.execute(text(f"select t::text from {table} t"))).scalars()
        ]
    assert rows
    assert not any(made["secret"][4:] in row for row in rows)


async def test_the_database_refuses_a_third_live_secret_and_a_life_over_a_year(plane: ControlPlane, admin: str):
    made = await create(plane, admin)
    insert = (
        "insert into inference_key_secrets (id, key_id, slot, sha256, created_at, expires_at)"
        " values ('s', :key, :slot, 'd', now(), now() + make_interval(days => :days))"
    )
    for slot, days in ((1, 1), (3, 1), (2, 366)):
        with pytest.raises(Exception, match="inference_key_secrets"):
            async with plane.database.transaction() as tx:
                await tx.session.execute(text(insert), {"key": made["key"]["id"], "slot": slot, "days": days})
