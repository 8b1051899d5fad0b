"""What the signed snapshot says of keys' shares, of the places of endpoints, and of the policies in force."""

import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.contracts.snapshot import Snapshot
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.fleet import service as fleet
from controlplane.domains.fleet.types import DeclaredNode, Zone
from controlplane.domains.policy.rules.shipped import shipped_policies
from controlplane.domains.serving.rules import Places
from controlplane.domains.serving.service import snapshots
from controlplane.domains.serving.tables import Endpoint, Model, Revision
from controlplane.domains.shares import service as shares
from controlplane.domains.shares.types import ShareKind
from tests.support.control_plane import SITE, ControlPlane

ADMIN = Actor("user_ada", Role.PLATFORM_ADMIN)
STEWARD = Actor("user_eva", Role.DATA_STEWARD)
GATEWAY = Actor("gateway", Role.GATEWAY)
SIGNER = Ed25519PrivateKey.generate()
NODE = DeclaredNode("gpu1", "10.0.0.1", "north", ("compute",), ())


async def publish(plane: ControlPlane, signer: Ed25519PrivateKey = SIGNER) -> Snapshot:
    async with plane.database.transaction() as tx:
        await snapshots.publish_snapshot(tx, SYSTEM, site=SITE, key=signer, lifetime=timedelta(hours=1))
    async with plane.database.transaction() as tx:
        newest = await snapshots.newest_snapshot(tx, GATEWAY, after=0)
    assert newest is not None
    return Snapshot.model_validate_json(newest.payload)


async def make_key(plane: ControlPlane, admin: str, **asked: object) -> None:
    async with plane.client(admin) as client:
        (await client.post("/keys", json={"name": "app", **asked})).raise_for_status()


@pytest.fixture
async def tenants(plane: ControlPlane, admin: str) -> None:
    async with plane.database.transaction() as tx:
        for kind, name, parent, weight in (
            (ShareKind.ORGANISATION, "uni", "", 1),
            (ShareKind.PROJECT, "lab", "uni", 3),
            (ShareKind.TEAM, "vision", "lab", 2),
        ):
            await shares.create_share(tx, ADMIN, kind=kind, name=name, parent=parent, weight=weight, slots=16)
    for project in ("lab", "vision", "unheard-of"):
        await make_key(plane, admin, project=project)
    await make_key(plane, admin)


async def test_every_key_finds_its_share_with_what_it_is_a_part_of(plane: ControlPlane, tenants: None):
    published = await publish(plane)

    found = {s.name: (s.organisation, s.project, s.team, s.weight) for s in published.shares}
    assert found == {
        "": ("", "", "", 1),
        "lab": ("uni", "lab", "", 3),
        "vision": ("uni", "lab", "vision", 2),
        "unheard-of": ("", "unheard-of", "", 1),
    }
    assert {key.project for key in published.keys} == set(found)


async def test_a_project_and_its_teams_have_one_salt_that_nobody_else_has_and_no_other_site(
    plane: ControlPlane, tenants: None
):
    here = {s.name: s.salt for s in (await publish(plane)).shares}
    there = {s.name: s.salt for s in (await publish(plane, Ed25519PrivateKey.generate())).shares}

    assert here["lab"] == here["vision"]
    assert len(set(here.values())) == len(here) - 1
    assert not set(here.values()) & set(there.values())
    assert all(len(salt) == 32 for salt in here.values())


async def test_content_is_kept_for_those_of_whom_somebody_said_so(plane: ControlPlane, tenants: None):
    async with plane.database.transaction() as tx:
        await shares.keep_content(tx, STEWARD, name="vision", keeps=True)

    kept = {s.name: s.keeps_content for s in (await publish(plane)).shares}

    assert kept == {"": False, "lab": False, "vision": True, "unheard-of": False}


async def test_a_word_that_says_no_more_than_its_default_is_left_out_so_that_older_gateways_read_on(
    plane: ControlPlane, admin: str
):
    await make_key(plane, admin)
    await publish(plane)
    async with plane.database.transaction() as tx:
        newest = await snapshots.newest_snapshot(tx, GATEWAY, after=0)
    assert newest is not None

    assert not {"leaving", "budgets"} & json.loads(newest.payload).keys()
    assert "priority" not in json.loads(newest.payload)["keys"][0]


async def test_a_key_s_class_and_jurisdictions_reach_the_gateway(plane: ControlPlane, admin: str):
    await make_key(plane, admin, priority="batch", jurisdictions=["FR", "DE", "DE"])

    (found,) = (await publish(plane)).keys

    assert (found.priority, found.jurisdictions) == ("batch", ("DE", "FR"))


async def test_the_policies_in_force_travel_with_the_snapshot(plane: ControlPlane):
    assert (await publish(plane)).policies == shipped_policies()


async def add_endpoint(plane: ControlPlane, zone: str) -> None:
    async with plane.database.transaction() as tx:
        tx.session.add(Model(
            name="m", file="m.gguf", sha256="ab" * 32, format="gguf", licence="MIT", size_bytes=1, weights_bytes=1,
            kv_bytes_per_token=1, context_tokens=512, vocab_tokens=10, registered_at=tx.now,
        ))  # fmt: skip
        tx.session.add(
            Endpoint(id="endpoint_a", name="chat", zone=zone, replicas=0, revision_id="revision_a", created_at=tx.now)
        )
        await tx.session.flush()
        tx.session.add(Revision(
            id="revision_a", endpoint_id="endpoint_a", number=1, model="m", adapter="llama_cpp", gpus=0, gpu_type="",
            gpu_memory_bytes=0, context_tokens=512, parallel=1, created_at=tx.now,
        ))  # fmt: skip


@pytest.mark.parametrize(("zone", "place"), [("north", ("DE", 2)), ("elsewhere", ("", 0))])
async def test_an_endpoint_lies_where_its_zone_was_declared_and_else_only_public_data_goes_there(plane, zone, place):
    await add_endpoint(plane, zone)
    async with plane.database.transaction() as tx:
        assert await fleet.declare_nodes(tx, ADMIN, nodes=[NODE], zones=[Zone("north", "DE", 2)])

    (found,) = (await publish(plane)).endpoints

    assert (found.jurisdiction, found.clearance) == place


async def test_a_zone_that_is_declared_otherwise_is_another_snapshot(plane: ControlPlane):
    await add_endpoint(plane, "north")
    seen = []
    for clearance in (1, 1, 3):
        async with plane.database.transaction() as tx:
            await fleet.declare_nodes(tx, ADMIN, nodes=[NODE], zones=[Zone("north", "DE", clearance)])
        published = await publish(plane)
        seen.append((published.version, published.endpoints[0].clearance))

    assert seen == [(1, 1), (1, 1), (2, 3)]


def test_a_box_without_a_declared_site_has_no_borders():
    assert Places({}, is_declared=False).find("local") == Zone("local", "", 3)
    assert Places({}, is_declared=True).find("local") == Zone("local", "", 0)
