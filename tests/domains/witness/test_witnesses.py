"""Nodes as witnesses, end to end: the agent's code, the machine API, the database, and a log that was tampered with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.agent.witness import Witness, WitnessFolder, WitnessRefused
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.loops import Sealer
from controlplane.domains.audit.types import SYSTEM
from controlplane.domains.health import service as health
from controlplane.domains.witness import service as witnesses
from controlplane.kit.errors import Unavailable
from controlplane.kit.note import is_signed, parse_key, parse_note
from controlplane.kit.paging import Page
from tests.support.control_plane import SITE, ControlPlane
from tests.support.database import empty

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
NODES = ("gpu1", "gpu2", "gpu3")


async def grow(
    plane: ControlPlane, events: int, word: str = "a", key: Ed25519PrivateKey = KEY, origin: str = SITE
) -> int:
    """Record events and seal them under a checkpoint; return its size."""
    async with plane.database.transaction() as tx:
        for number in range(events):
            await audit.record(tx, SYSTEM, "thing.happened", "site", number=number, word=word)
    made = await Sealer(plane.database, origin, lambda: key, plane.clock).step(last=True)
    assert made is not None
    return made.size


async def declare(plane: ControlPlane, admin: str) -> None:
    nodes = [
        {"name": name, "address": f"10.0.0.{number}", "zone": "north", "purposes": ["gpu"]}
        for number, name in enumerate(NODES, start=1)
    ]
    async with plane.client(admin) as client:
        assert (await client.put("/nodes", json={"nodes": nodes})).status_code == 200


@asynccontextmanager
async def agent(plane: ControlPlane, folder: Path, node: str = "gpu1") -> AsyncIterator[Witness]:
    async with plane.machine("node", node) as http:
        http.base_url = httpx.URL("http://api")
        yield Witness(http, WitnessFolder(folder / node), node, plane.clock)


async def step(plane: ControlPlane, folder: Path, node: str = "gpu1") -> None:
    async with agent(plane, folder, node) as witness:
        await witness.step()


async def refusal(plane: ControlPlane, folder: Path, node: str = "gpu1") -> str:
    with pytest.raises(WitnessRefused) as caught:
        await step(plane, folder, node)
    return caught.value.why


async def incidents(plane: ControlPlane, admin: str) -> list[tuple[str, str]]:
    async with plane.database.transaction() as tx:
        await health.settle_incidents(tx, SYSTEM)
    async with plane.client(admin) as client:
        rows = (await client.get("/incidents")).json()["items"]
    return sorted((row["kind"], row["subject"]) for row in rows if row["kind"].startswith("witness"))


async def start_again(plane: ControlPlane, database_url: str) -> str:
    """Leave an empty database, as if another log had been put in its place; return a new administrator."""
    await empty(database_url)
    admin = await plane.administrator()
    await declare(plane, admin)
    return admin


async def test_a_node_signs_each_checkpoint_that_goes_on_from_the_one_it_keeps(plane: ControlPlane, tmp_path: Path):
    size = 0
    for _ in range(3):
        size = await grow(plane, 7)
        await step(plane, tmp_path)
        await step(plane, tmp_path)

    async with plane.database.transaction() as tx:
        (last,) = await audit.list_witnesses(tx)
        note = parse_note(await audit.sign_note(tx, await audit.get_checkpoint(tx, size)))
    assert (last.witness, last.size) == ("gpu1", size)
    assert any(is_signed(note.body, one, parse_key(last.verifier_key)) for one in note.signatures)


async def test_before_there_is_a_checkpoint_nothing_is_signed(plane: ControlPlane, tmp_path: Path):
    await step(plane, tmp_path)

    assert not (tmp_path / "gpu1" / "checkpoint").exists()


async def test_t6_a_log_that_was_rolled_back_is_refused_and_becomes_an_incident(
    plane: ControlPlane, admin: str, database_url: str, tmp_path: Path
):
    await declare(plane, admin)
    await grow(plane, 40)
    await step(plane, tmp_path)

    admin = await start_again(plane, database_url)
    await grow(plane, 3)

    assert await refusal(plane, tmp_path) == "rollback"
    assert ("witness-refuses", "gpu1") in await incidents(plane, admin)
    assert await refusal(plane, tmp_path) == "rollback", "a witness does not forget after it said no"


async def test_a_rewritten_log_of_any_greater_size_is_refused_though_the_logs_own_key_signed_it(
    plane: ControlPlane, admin: str, database_url: str, tmp_path: Path
):
    await declare(plane, admin)
    await grow(plane, 20)
    await step(plane, tmp_path)

    await start_again(plane, database_url)
    await grow(plane, 90, word="forged")

    assert await refusal(plane, tmp_path) == "inconsistent"


async def test_t8_two_witnesses_cannot_be_shown_two_logs(
    plane: ControlPlane, admin: str, database_url: str, tmp_path: Path
):
    await declare(plane, admin)
    size = await grow(plane, 20)
    await step(plane, tmp_path, "gpu1")

    admin = await start_again(plane, database_url)
    async with plane.database.transaction() as tx:
        known = len(await audit.list_events(tx, Page(1000, None)))
        for _ in range(size - known):
            await audit.record(tx, SYSTEM, "thing.happened", "site", word="other view")
    other = await Sealer(plane.database, SITE, lambda: KEY, plane.clock).step(last=True)
    assert other is not None
    assert other.size == size
    await step(plane, tmp_path, "gpu2")

    assert await refusal(plane, tmp_path, "gpu1") == "split_view"
    assert ("witness-refuses", "gpu1") in await incidents(plane, admin)


async def test_a_log_of_another_name_or_under_another_key_is_refused(
    plane: ControlPlane, admin: str, database_url: str, tmp_path: Path
):
    await declare(plane, admin)
    await grow(plane, 5)
    await step(plane, tmp_path)
    await start_again(plane, database_url)
    await grow(plane, 50, origin="elsewhere")
    assert await refusal(plane, tmp_path) == "wrong_origin"

    await start_again(plane, database_url)
    await grow(plane, 50, key=Ed25519PrivateKey.generate())
    assert await refusal(plane, tmp_path) == "unknown_key"


async def test_a_refusal_ends_when_the_true_log_is_back(plane: ControlPlane, admin: str, tmp_path: Path):
    await declare(plane, admin)
    await grow(plane, 5)
    await step(plane, tmp_path)
    async with plane.machine("node", "gpu1") as client:
        told = {"kind": "rollback", "detail": "went back", "kept": "a", "offered": "b"}
        assert (await client.post("/agent/witness-refusals", json=told)).status_code == 204
    assert ("witness-refuses", "gpu1") in await incidents(plane, admin)

    await grow(plane, 5)
    await step(plane, tmp_path)

    assert ("witness-refuses", "gpu1") not in await incidents(plane, admin)


async def test_fewer_than_a_majority_is_an_incident_only_after_they_had_time(
    plane: ControlPlane, admin: str, tmp_path: Path
):
    await declare(plane, admin)
    await grow(plane, 5)
    assert await incidents(plane, admin) == []

    await step(plane, tmp_path, "gpu1")
    plane.clock.move(100)
    assert await incidents(plane, admin) == [("witnesses-few", "site")]
    async with plane.client(admin) as client:
        seen = (await client.get("/witnesses")).json()
    assert (seen["fresh"], seen["declared"], seen["needed"]) == (1, 3, 2)

    await step(plane, tmp_path, "gpu2")
    assert await incidents(plane, admin) == []


async def test_a_node_signs_only_under_its_own_name(plane: ControlPlane, tmp_path: Path):
    await grow(plane, 5)
    async with plane.machine("node", "gpu2") as http:
        http.base_url = httpx.URL("http://api")
        with pytest.raises(Unavailable, match="409"):
            await Witness(http, WitnessFolder(tmp_path / "x"), "gpu1", plane.clock).step()

    async with plane.database.transaction() as tx:
        assert await audit.list_witnesses(tx) == []


async def test_a_new_key_of_a_node_is_an_event(plane: ControlPlane, admin: str, tmp_path: Path):
    await grow(plane, 5)
    await step(plane, tmp_path)
    (tmp_path / "gpu1" / "witness.key").unlink()
    await grow(plane, 5)
    await step(plane, tmp_path)

    async with plane.client(admin) as client:
        events = [event["event"] for event in (await client.get("/audit-events")).json()["items"]]
    told = [event for event in events if event.startswith("witness.")]
    assert told == ["witness.key_changed", "witness.key_registered"]


async def test_what_a_node_remembers_cannot_be_changed_by_hand(plane: ControlPlane, tmp_path: Path):
    await grow(plane, 5)
    await step(plane, tmp_path)
    memory = tmp_path / "gpu1" / "checkpoint"
    memory.write_text(memory.read_text().replace("\n5\n", "\n4\n").replace("\n6\n", "\n4\n"))
    await grow(plane, 5)

    with pytest.raises(ValueError, match="not signed"):
        await step(plane, tmp_path)


async def test_the_newest_witnessed_size_survives_for_the_check_at_the_start(plane: ControlPlane, tmp_path: Path):
    size = await grow(plane, 5)
    await step(plane, tmp_path)

    async with plane.database.transaction() as tx:
        assert max(row.size for row in await audit.list_witnesses(tx)) == size
        await audit.check_head(tx)
        assert (await witnesses.judge_witnesses(tx)).needed == 1
