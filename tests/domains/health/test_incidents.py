"""Incidents over a real database: opened and closed once, on record, and never multiplied by a fault that flaps."""

from datetime import timedelta
from typing import Any  # JSON of the API has no narrower type

import httpx
import pytest

from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.domains.health import service as health
from controlplane.kit.errors import Denied
from tests.support.control_plane import ControlPlane, make_report

NODES = {"nodes": [{"name": "gpu1", "address": "10.0.0.1", "zone": "main", "purposes": ["authority"], "gpus": []}]}
OTHER = {**NODES["nodes"][0], "name": "ctl1", "address": "10.0.0.2", "purposes": ["api"]}
LEAK = "gpu1, root: udp 192.0.2.1 53 was sent"


class Watch:
    """A control plane with one node whose agent tells of its proofs."""

    def __init__(self, plane: ControlPlane, client: httpx.AsyncClient) -> None:
        self.plane, self.client, self._count = plane, client, 0

    async def prove(self, verdict: str, *reasons: str, minutes_ago: int = 0) -> None:
        self._count += 1
        ended = self.plane.clock.now() - timedelta(minutes=minutes_ago)
        digest = f"{self._count:064x}"
        await self.tell({"sha256": digest, "verdict": verdict, "reasons": reasons, "ended_at": ended.isoformat()})

    async def prove_site(self, verdict: str, *reasons: str, minutes_ago: int = 0, by: str = "gpu1") -> None:
        """Tell of a proof of the whole site; the nodes' own proofs stay fresh and green."""
        await self.prove("isolated")
        ended = self.plane.clock.now() - timedelta(minutes=minutes_ago)
        self._count += 1
        digest = f"{self._count:064x}"
        whole = {"sha256": digest, "verdict": verdict, "reasons": reasons, "ended_at": ended.isoformat()}
        await self.tell(whole, covers="site_proof", by=by)

    async def tell(self, proof: dict[str, Any], covers: str = "proof", by: str = "gpu1") -> None:
        report = make_report(self.plane.clock, by, 0, "", 0).model_dump(mode="json")
        async with self.plane.machine("node", by) as node:
            answer = await node.post("/agent/reports", json={**report, covers: proof})
        assert answer.status_code == httpx.codes.NO_CONTENT, answer.text
        await self.settle()

    async def settle(self, minutes: float = 0) -> None:
        self.plane.clock.move(minutes * 60)
        async with self.plane.database.transaction() as tx:
            await health.settle_incidents(tx, SYSTEM)

    async def incidents(self, state: str = "open") -> list[tuple[str, str]]:
        return [(row["kind"], row["subject"]) for row in await self.rows(state)]

    async def rows(self, state: str = "all") -> list[dict[str, Any]]:
        return list((await self.client.get(f"/incidents?state={state}")).json()["items"])

    async def events(self) -> list[str]:
        found = (await self.client.get("/audit-events")).json()["items"]
        return [event["event"] for event in reversed(found) if event["event"].startswith("incident.")]


@pytest.fixture
async def watch(plane: ControlPlane, admin: str):
    async with plane.client(admin) as client:
        await client.put("/nodes", json=NODES)
        yield Watch(plane, client)


async def test_a_leak_opens_an_incident_and_a_proof_of_isolation_closes_it(watch: Watch):
    await watch.prove("leaking", LEAK)
    (opened,) = await watch.rows()
    await watch.prove("isolated")
    (closed,) = await watch.rows()

    assert (opened["kind"], opened["subject"], opened["detail"]) == ("boundary-leak", "gpu1", LEAK)
    assert opened["closed_at"] is None
    assert closed["closed_at"] is not None
    assert await watch.incidents() == []
    assert await watch.events() == ["incident.opened", "incident.closed"]


async def test_the_same_leak_seen_again_is_one_incident(watch: Watch):
    for _ in range(3):
        await watch.prove("leaking", LEAK)
        await watch.settle(minutes=15)

    (row,) = await watch.rows()

    assert row["last_seen_at"] > row["opened_at"]
    assert row["evidence_sha256"] == f"{3:064x}"
    assert await watch.events() == ["incident.opened"]


async def test_a_leak_that_comes_and_goes_is_one_incident_that_counts(watch: Watch):
    for _ in range(4):
        await watch.prove("leaking", LEAK)
        await watch.prove("isolated")

    (row,) = await watch.rows()

    assert row["times"] == 4
    assert await watch.events() == ["incident.opened", "incident.closed", *["incident.reopened", "incident.closed"] * 3]


async def test_a_leak_that_is_back_after_hours_is_another_incident(watch: Watch):
    await watch.prove("leaking", LEAK)
    await watch.prove("isolated")
    watch.plane.clock.move(7200)
    await watch.prove("leaking", LEAK)

    assert [row["times"] for row in await watch.rows()] == [1, 1]


async def test_doubt_does_not_end_a_leak(watch: Watch):
    await watch.prove("leaking", LEAK)
    await watch.prove("inconclusive", "the job did not start")

    assert sorted(await watch.incidents()) == [("boundary-leak", "gpu1"), ("boundary-unproven", "gpu1")]


async def test_silence_does_not_end_a_leak(watch: Watch):
    await watch.prove("leaking", LEAK)
    await watch.settle(minutes=60)

    assert sorted(await watch.incidents()) == [("boundary-leak", "gpu1"), ("proof-stale", "gpu1")]


async def test_a_node_that_never_proves_is_an_incident_after_a_while(watch: Watch):
    await watch.settle(minutes=30)
    early = await watch.incidents()
    await watch.settle(minutes=11)

    assert early == []
    assert await watch.incidents() == [("proof-stale", "gpu1")]
    await watch.prove("isolated")
    assert await watch.incidents() == []


async def test_the_same_old_proof_told_again_and_again_grows_stale(watch: Watch):
    proof = {"sha256": "a" * 64, "verdict": "isolated", "reasons": []}
    proof["ended_at"] = (watch.plane.clock.now() + timedelta(days=2)).isoformat()  # its clock is fast
    for _ in range(5):
        await watch.tell(proof)
        await watch.settle(minutes=10)

    assert await watch.incidents() == [("proof-stale", "gpu1")]


async def test_an_old_proof_does_not_close_what_only_a_fresh_one_may(watch: Watch):
    await watch.settle(minutes=60)
    await watch.prove("isolated", minutes_ago=50)

    assert await watch.incidents() == [("proof-stale", "gpu1")]


async def test_a_node_that_is_no_longer_declared_has_no_incident(watch: Watch):
    await watch.prove("leaking", LEAK)
    other = {**NODES["nodes"][0], "name": "gpu2"}
    await watch.client.put("/nodes", json={"nodes": [other]})
    await watch.settle()

    assert await watch.incidents() == []
    assert await watch.events() == ["incident.opened", "incident.closed"]


TRAPPED = "the trap heard 10.0.0.1 send udp to 192.0.2.1 53"
DEAF = "the trap r did not hear the canary: it recorded nothing"


@pytest.mark.parametrize(
    ("verdict", "kind", "reason"), [("leaking", "boundary-leak", TRAPPED), ("inconclusive", "boundary-unproven", DEAF)]
)
async def test_a_whole_proof_that_is_not_green_is_an_incident_of_the_site_until_one_is(
    watch: Watch, verdict: str, kind: str, reason: str
):
    await watch.prove_site(verdict, reason)
    (opened,) = await watch.rows()
    watch.plane.clock.move(60)
    await watch.prove_site("isolated")

    assert (opened["kind"], opened["subject"], opened["detail"]) == (kind, "site", reason)
    assert await watch.incidents() == []
    assert await watch.events() == ["incident.opened", "incident.closed"]


async def test_the_nodes_own_proofs_do_not_end_a_leak_of_the_site_and_neither_does_doubt(watch: Watch):
    await watch.prove_site("leaking", TRAPPED)
    await watch.prove("isolated")
    after_node = await watch.incidents()
    await watch.prove_site("inconclusive", DEAF)

    assert after_node == [("boundary-leak", "site")]
    assert sorted(await watch.incidents()) == [("boundary-leak", "site"), ("boundary-unproven", "site")]


async def test_an_older_whole_proof_put_back_does_not_end_a_leak(watch: Watch):
    await watch.prove_site("leaking", TRAPPED)
    await watch.prove_site("isolated", minutes_ago=5)

    assert await watch.incidents() == [("boundary-leak", "site")]


async def test_a_leak_is_told_even_if_that_controllers_clock_is_slow(watch: Watch):
    await watch.prove_site("isolated")
    await watch.prove_site("leaking", TRAPPED, minutes_ago=5)

    assert await watch.incidents() == [("boundary-leak", "site")]


async def test_a_whole_proof_of_a_fast_clock_does_not_outdo_every_later_one(watch: Watch):
    await watch.prove_site("leaking", TRAPPED, minutes_ago=-2880)
    watch.plane.clock.move(60)
    await watch.prove_site("isolated")

    assert await watch.incidents() == []


async def test_a_whole_proof_does_not_grow_stale(watch: Watch):
    await watch.prove_site("isolated")
    watch.plane.clock.move(7 * 86400)
    await watch.prove("isolated")

    assert await watch.incidents() == []


async def test_of_the_whole_site_only_the_authoritys_node_is_heard(watch: Watch):
    await watch.client.put("/nodes", json={"nodes": [*NODES["nodes"], OTHER]})
    await watch.prove_site("leaking", TRAPPED, by="ctl1")
    accused = await watch.incidents()
    await watch.prove_site("leaking", TRAPPED)
    await watch.prove_site("isolated", minutes_ago=-5, by="ctl1")

    assert accused == []
    assert await watch.incidents() == [("boundary-leak", "site")]


async def test_one_incident_is_shown_in_full_and_an_unknown_one_is_not_found(watch: Watch):
    await watch.prove("leaking", LEAK)
    (row,) = await watch.rows()

    assert (await watch.client.get(f"/incidents/{row['id']}")).json() == row
    assert (await watch.client.get("/incidents/incident_0")).status_code == httpx.codes.NOT_FOUND


async def test_lists_are_paged(watch: Watch):
    for _ in range(3):
        await watch.prove("leaking", LEAK)
        await watch.prove("isolated")
        watch.plane.clock.move(7200)
    first = (await watch.client.get("/incidents?state=all&limit=2")).json()
    rest = (await watch.client.get(f"/incidents?state=all&limit=2&cursor={first['cursor']}")).json()

    assert [len(page["items"]) for page in (first, rest)] == [2, 1]
    assert (await watch.client.get("/incidents?cursor=eA==")).status_code == httpx.codes.UNPROCESSABLE_ENTITY


async def test_only_the_system_settles_and_only_a_node_tells_of_its_proofs(plane: ControlPlane):
    async with plane.database.transaction() as tx:
        with pytest.raises(Denied):
            await health.settle_incidents(tx, Actor("gpu1", Role.NODE))
