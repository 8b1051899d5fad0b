"""The access report end to end: a real log, real policies, two people, and a verifier that knows none of it."""

import csv
import io
import subprocess
import sys
from base64 import b64decode
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import select

from controlplane.client.reports import lines_of, write_evidence
from controlplane.contracts.reports import AccessReport, ExportReport
from controlplane.domains.audit.loops import Sealer
from controlplane.domains.audit.types import Role
from controlplane.domains.reports.service import approval_subject
from controlplane.web.tables import IdempotentCall
from tests.support.control_plane import SITE, ControlPlane, make_manifest
from tests.support.source import ROOT

KEY = Ed25519PrivateKey.from_private_bytes(b"r" * 32)
VERIFIER = ROOT / "controlplane/verifier/redoubt_verify.py"


@pytest.fixture
async def auditor(plane: ControlPlane, admin: str) -> str:
    """Give an auditor of a site on which an administrator did something, and an operator was refused it."""
    operator = await plane.person(Role.OPERATOR, name="otto")
    await post(plane, admin, "/models", make_manifest().model_dump(mode="json"))
    await post(plane, operator, "/models", make_manifest("other").model_dump(mode="json"))
    await Sealer(plane.database, SITE, lambda: KEY, plane.clock).step(last=True)
    return await plane.person(Role.AUDITOR, name="audrey")


async def post(plane: ControlPlane, token: str, path: str, body: object):
    async with plane.client(token) as client:
        return await client.post(path, json=body)


def period(plane: ControlPlane) -> dict[str, str]:
    now = plane.clock.now()
    return {"from": (now - timedelta(days=1)).isoformat(), "to": (now + timedelta(days=1)).isoformat()}


async def read(plane: ControlPlane, token: str, **asked: str):
    async with plane.client(token) as client:
        return await client.get("/access-report", params={**period(plane), **asked})


async def report_of(plane: ControlPlane, token: str, **asked: str) -> AccessReport:
    answer = await read(plane, token, **asked)
    assert answer.status_code == 200, answer.text
    return AccessReport.model_validate(answer.json()["report"])


async def test_an_auditor_reads_who_held_what_and_what_was_done_with_it(plane: ControlPlane, auditor: str):
    report = await report_of(plane, auditor)
    ada = next(one for one in report.principals if one.name == "ada")
    assert {span.role for span in ada.roles} == {"platform-admin", "operator"}
    assert [line.event for line in ada.privileged] == ["model.registered"]
    assert ada.sessions[0].methods == ("password", "totp")
    assert ada.privileged[0].policy == report.policy_digest


async def test_a_denial_is_listed_at_whom_it_denied(plane: ControlPlane, auditor: str):
    (otto,) = (await report_of(plane, auditor, principal="otto")).principals
    assert [(line.event, line.resource) for line in otto.denials] == [("request.denied", "/api/v1/models")]


async def test_every_line_that_is_sealed_is_verified_offline_with_the_key_alone(
    plane: ControlPlane, auditor: str, tmp_path: Path
):
    report = await report_of(plane, auditor)
    assert write_evidence(tmp_path, report) >= 2
    assert report.checkpoint is not None
    for proof in tmp_path.glob("*.tlog-proof"):
        assert verify(proof, proof.with_suffix(".json"), report.checkpoint.signer) == 0


async def test_evidence_that_was_altered_is_not_verified(plane: ControlPlane, auditor: str, tmp_path: Path):
    report = await report_of(plane, auditor, principal="ada")
    write_evidence(tmp_path, report)
    assert report.checkpoint is not None
    line = next(line for line in lines_of(report) if line.proof)
    entry = tmp_path / f"{line.event_id}.json"
    entry.write_text(entry.read_text().replace("tiny", "huge"))
    assert verify(tmp_path / f"{line.event_id}.tlog-proof", entry, report.checkpoint.signer) != 0


async def test_that_it_was_read_is_itself_on_record(plane: ControlPlane, auditor: str):
    await report_of(plane, auditor, principal="ada")
    async with plane.client(auditor) as client:
        events = (await client.get("/audit-events")).json()["items"]
    assert ("access_report.read", "ada") in {(event["event"], event["resource"]) for event in events}


@pytest.mark.parametrize(
    "roles", [(Role.PLATFORM_ADMIN, Role.OPERATOR), (Role.SECURITY_ADMIN,), (Role.DATA_STEWARD,), (Role.OPERATOR,)]
)
async def test_nobody_else_reads_it(plane: ControlPlane, auditor: str, roles: tuple[Role, ...]):
    assert auditor
    assert (await read(plane, await plane.person(*roles))).status_code == 403


async def test_a_tenant_does_not_read_it(plane: ControlPlane):
    assert (await read(plane, await plane.person(Role.TENANT_ADMIN, project="blue"))).status_code == 403


async def test_an_auditor_changes_nothing_by_any_route(plane: ControlPlane, auditor: str):
    found = []
    for path, methods in plane.admin_app.openapi()["paths"].items():
        for method in {"post", "put", "patch", "delete"} & set(methods):
            if path.startswith("/api/v1/") and not path.startswith(("/api/v1/runs", "/api/v1/sign-ins")):
                async with plane.client(auditor) as client:
                    url = f"http://api{path}".replace("{", "").replace("}", "")
                    answer = await client.request(method.upper(), url, json={})
                found += [(method, path, answer.status_code)] if answer.status_code < 300 else []
    own = [one for one in found if "session" in one[1] or one[1] == "/api/v1/access-check"]
    assert [one for one in found if one not in own] == []


async def test_an_object_says_who_could_by_the_policies_in_force(plane: ControlPlane, auditor: str):
    (thing,) = (await report_of(plane, auditor, object="model/tiny")).objects
    could = {one.name: (set(one.verbs), set(one.needs_step_up)) for one in thing.could}
    assert "model.register" in could["ada"][0] | could["ada"][1]
    assert could["otto"] == ({"model.read"}, set())
    assert [(line.actor[:5], line.event) for line in thing.events] == [("user_", "model.registered")]
    assert not (await report_of(plane, auditor, object="model/tiny")).principals


@pytest.mark.parametrize(
    ("form", "start"), [("json", b"{"), ("csv", b'"subject"'), ("html", b"<!doctype"), ("pdf", b"%PDF-")]
)
async def test_every_form_is_given(plane: ControlPlane, auditor: str, form: str, start: bytes):
    answer = await read(plane, auditor, format=form)
    assert b64decode(answer.json()["content"]).startswith(start)


async def test_the_csv_has_the_proof_on_the_line(plane: ControlPlane, auditor: str):
    answer = await read(plane, auditor, format="csv", principal="ada")
    rows = list(csv.reader(io.StringIO(b64decode(answer.json()["content"]).decode())))
    (row,) = [row for row in rows if row[1] == "Privileged actions"]
    assert row[-1].startswith("c2sp.org/tlog-proof@v1")


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"principal": "nobody"}, 404),
        ({"principal": "ada", "object": "model/tiny"}, 422),
        ({"object": "no-slash"}, 422),
        ({"format": "docx"}, 422),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, 422),
        ({"from": "1990-01-01T00:00:00Z"}, 422),
        ({"from": "yesterday"}, 422),
    ],
)
async def test_what_cannot_be_asked_is_refused(plane: ControlPlane, auditor: str, asked: dict[str, str], status: int):
    assert (await read(plane, auditor, **asked)).status_code == status


async def approval(plane: ControlPlane, asker: str, ask: ExportReport, approver: str | None) -> str:
    body = {"action": "access_report.export", "subject": approval_subject(ask), "reason": "yearly audit"}
    proposed = await post(plane, asker, "/approvals", body)
    assert proposed.status_code == 201, proposed.text
    identity = str(proposed.json()["id"])
    if approver is not None:
        assert (await post(plane, approver, f"/approvals/{identity}/approve", {})).status_code == 200
    return identity


def export(plane: ControlPlane, form: str = "pdf") -> ExportReport:
    now = plane.clock.now()
    return ExportReport.model_validate(
        {"principal": "ada", "began_at": now - timedelta(days=1), "ended_at": now, "format": form, "approval": "none"}
    )


async def test_an_export_takes_two_people_and_counts_once(plane: ControlPlane, admin: str, auditor: str):
    assert auditor
    security = await plane.person(Role.SECURITY_ADMIN, name="sec")
    ask = export(plane)
    given = ask.model_copy(update={"approval": await approval(plane, admin, ask, security)})
    body = given.model_dump(mode="json")

    answers = [await post(plane, admin, "/access-report-exports", body) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 409]


async def test_an_export_is_not_kept_to_be_given_again(plane: ControlPlane, admin: str, auditor: str):
    assert auditor
    security = await plane.person(Role.SECURITY_ADMIN, name="sec")
    ask = export(plane, "json")
    body = ask.model_copy(update={"approval": await approval(plane, admin, ask, security)}).model_dump(mode="json")
    async with plane.client(admin) as client:
        client.headers["Idempotency-Key"] = "once"
        first, second = [await client.post("/access-report-exports", json=body) for _ in range(2)]
    async with plane.database.transaction() as tx:
        kept = (await tx.session.scalars(select(IdempotentCall.body).where(IdempotentCall.key == "once"))).one()

    assert (first.status_code, second.status_code, kept) == (201, 409, "")
    assert "answer" in second.text
    assert first.json()["content"] not in second.text


async def test_an_export_that_nobody_approved_or_another_one_is_refused(plane: ControlPlane, admin: str, auditor: str):
    assert auditor
    security = await plane.person(Role.SECURITY_ADMIN, name="sec")
    ask = export(plane)
    waiting = ask.model_copy(update={"approval": await approval(plane, admin, ask, None)})
    other = export(plane, "csv").model_copy(
        update={
            "approval": await approval(plane, admin, ask, security),
            "began_at": ask.began_at,
            "ended_at": ask.ended_at,
        }
    )

    for body in (ask, waiting, other):
        answer = await post(plane, admin, "/access-report-exports", body.model_dump(mode="json"))
        assert answer.status_code in (404, 409), answer.text


def verify(proof: Path, entry: Path, key: str) -> int:
    words = [sys.executable, "-I", str(VERIFIER), str(proof), "--event", str(entry), "--key", key]
    return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode
