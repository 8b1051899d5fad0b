"""The log through the API: read and proved by those who may, changed by nobody alone."""

import json
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from controlplane.client.audit_export import write_export
from controlplane.contracts import audit as shapes
from controlplane.domains.audit import service as audit
from controlplane.domains.audit.loops import Sealer
from controlplane.domains.audit.types import SYSTEM, Actor, Role
from controlplane.kit import note
from controlplane.verifier import redoubt_verify
from tests.support.control_plane import SITE, ControlPlane

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OLD, NEW = Ed25519PrivateKey.from_private_bytes(b"o" * 32), Ed25519PrivateKey.from_private_bytes(b"n" * 32)
GPU1 = Actor("gpu1", Role.NODE)


async def seal(plane: ControlPlane) -> None:
    await Sealer(plane.database, SITE, lambda: KEY, plane.clock).step(last=True)


async def test_an_auditor_exports_what_the_verifier_believes(
    plane: ControlPlane, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    auditor = await plane.person(Role.AUDITOR)
    await seal(plane)
    async with plane.client(auditor) as client:
        event_id = (await client.get("/audit-events?limit=1")).json()["items"][0]["event_id"]
        entries = (await client.get("/audit/entries?limit=200")).json()["items"]
        checkpoints = (await client.get("/audit/checkpoints")).json()["items"]
        proof = (await client.get(f"/audit/events/{event_id}/proof")).json()
        newest = (await client.get("/audit/checkpoint")).json()
        second = newest["size"]
        consistency = await client.get(f"/audit/consistency?first=1&second={second}")
        witnesses = (await client.get("/audit/witnesses")).json()["items"]

    assert consistency.status_code == 200
    assert witnesses == []
    write_export(
        tmp_path / "x",
        [shapes.Checkpoint.model_validate(row) for row in checkpoints],
        [shapes.Entry.model_validate(row) for row in entries],
        proofs=[shapes.Proof.model_validate(proof)],
    )
    capsys.readouterr()  # what was logged so far
    assert redoubt_verify.main([str(tmp_path / "x"), "--key", newest["signer"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["proofs"] == 1


async def test_an_export_has_every_key_that_a_witness_ever_signed_with(plane: ControlPlane, tmp_path: Path):
    auditor = await plane.person(Role.AUDITOR)
    for key in (OLD, NEW):
        await seal(plane)
        async with plane.database.transaction() as tx:
            newest = await audit.get_checkpoint(tx, None)
            line = str(note.cosign(note.parse_note(newest.note).body, "gpu1", key, int(plane.clock.now().timestamp())))
            by = str(note.verifier_key("gpu1", key, note.WITNESS_KEY))
            await audit.add_cosignature(tx, GPU1, size=newest.size, verifier_key=by, line=line)
            await audit.record(tx, SYSTEM, "thing.happened", "site")
        plane.clock.move(60)
    async with plane.client(auditor) as client:
        witnesses = (await client.get("/audit/witnesses")).json()["items"]
        checkpoints = (await client.get("/audit/checkpoints")).json()["items"]
        entries = (await client.get("/audit/entries?limit=200")).json()["items"]

    write_export(
        tmp_path / "x",
        [shapes.Checkpoint.model_validate(row) for row in checkpoints],
        [shapes.Entry.model_validate(row) for row in entries],
        witness_keys=[row["verifier_key"] for row in witnesses],
    )
    keys = ["--key", checkpoints[-1]["signer"], "--key", str(note.verifier_key("gpu1", NEW, note.WITNESS_KEY))]
    assert redoubt_verify.main([str(tmp_path / "x"), *keys, "--witnesses", "1"]) == 0
    assert len(witnesses) == 2


async def test_reading_what_an_event_says_of_a_person_is_an_event(plane: ControlPlane):
    auditor = await plane.person(Role.AUDITOR)
    async with plane.client(auditor) as client:
        events = (await client.get("/audit-events")).json()["items"]
        started = next(e["event_id"] for e in events if e["event"] == "session.started")
        shown = (await client.get(f"/audit/events/{started}")).json()
        newest = (await client.get("/audit-events?limit=1")).json()["items"][0]

    assert json.loads(shown["personal"])["source"] == "test"
    assert '"source":"test"' not in shown["entry"]
    assert (newest["event"], newest["resource"]) == ("audit.personal_read", started)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.DATA_STEWARD, Role.TENANT_ADMIN])
async def test_who_has_no_business_with_the_log_reads_none_of_it(plane: ControlPlane, role: Role):
    async with plane.client(await plane.person(role, project="p" if role is Role.TENANT_ADMIN else "")) as client:
        for path in ("/audit-events", "/audit/entries", "/audit/checkpoint", "/audit/holds"):
            assert (await client.get(path)).status_code == 403, path


async def test_nobody_purges_alone_and_two_people_do(plane: ControlPlane):
    plane.clock.move(-14 * 31 * 86400)
    await plane.person(Role.OPERATOR)
    await seal(plane)
    plane.clock.move(14 * 31 * 86400)
    first, second = await plane.person(Role.SECURITY_ADMIN), await plane.person(Role.SECURITY_ADMIN)
    async with plane.client(first) as one, plane.client(second) as two:
        alone = await one.post("/audit/purges", json={"months": 13, "approval": "apr_none"})
        asked = await one.post(
            "/approvals",
            json={"action": "audit.purge", "subject": {"months": 13}, "reason": "thirteen months are over"},
        )
        approval = asked.json()["id"]
        early = await one.post("/audit/purges", json={"months": 13, "approval": approval})
        await two.post(f"/approvals/{approval}/approve")
        other = await one.post("/audit/purges", json={"months": 12, "approval": approval})
        done = await one.post("/audit/purges", json={"months": 13, "approval": approval})
        again = await one.post("/audit/purges", json={"months": 13, "approval": approval})

    assert [answer.status_code for answer in (alone, early, other, again)] == [404, 409, 409, 409]
    assert (done.status_code, done.json()["bodies"] > 0) == (httpx.codes.CREATED, True)


async def test_an_auditor_holds_releases_and_erases_nothing(plane: ControlPlane):
    async with plane.client(await plane.person(Role.AUDITOR)) as client:
        for path, body in [
            ("/audit/holds", {"reason": "x"}),
            ("/audit/holds/x/release", {"approval": "x"}),
            ("/audit/purges", {"approval": "x"}),
            ("/audit/erasures", {"subject": "x", "approval": "x"}),
        ]:
            assert (await client.post(path, json=body)).status_code == 403, path
