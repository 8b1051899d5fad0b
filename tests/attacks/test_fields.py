"""Fields that nobody asked for, names that lead elsewhere, texts that are code, calls that another made."""

import io
import json
import re

import pytest
import structlog
from pydantic import BaseModel

from controlplane.contracts.strict import Answer
from controlplane.domains.audit.types import Role
from controlplane.kit.log import configure_logging
from tests.attacks.routes import served_by
from tests.support.control_plane import ControlPlane, make_manifest

ENDPOINT = {"name": "chat", "zone": "north", "replicas": 0, "config": {"model": "tiny"}}
TRAVERSALS = [
    "../x",
    "..%2fx",
    "%2e%2e",
    "....//x",
    "/etc/passwd",
    "a/../b",
    "a\\..\\b",
    "a\0b",
    "C:x",
    "~root",
    "a\nb",
    ".",
]


@pytest.mark.parametrize(
    "extra", ["role", "id", "project", "created_at", "replicas_ready", "granted_by", "is_admin", "__class__"]
)
async def test_a_patch_with_a_field_of_its_own_is_refused(plane: ControlPlane, admin: str, extra: str):
    async with plane.client(admin) as client:
        answer = await client.patch("/endpoints/chat", json={"replicas": 2, extra: "platform-admin"})
    assert answer.status_code == 422
    assert answer.json()["reasons"] == [f"{extra}: Extra inputs are not permitted"]


def test_every_body_of_the_api_refuses_fields_that_it_does_not_know(plane: ControlPlane):
    loose = {
        f"{model.__module__}.{model.__name__}"
        for route in served_by(plane)
        for field in getattr(getattr(route.route, "dependant", None), "body_params", [])
        for model in _models(field.field_info.annotation)
        if model.model_config.get("extra") != "forbid"
    }
    assert loose == set()


def _models(annotation: object) -> list[type[BaseModel]]:
    """Return a body's model and every model within it."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return []
    if issubclass(annotation, Answer):
        return []
    inner = [field.annotation for field in annotation.model_fields.values()]
    return [annotation, *(model for one in inner for model in _models(one))]


@pytest.mark.parametrize("name", TRAVERSALS)
async def test_a_name_that_leads_elsewhere_names_nothing(plane: ControlPlane, admin: str, name: str):
    async with plane.client(admin) as client:
        made = await client.post("/endpoints", json={**ENDPOINT, "name": name})
        model = await client.post(
            "/models", json={**make_manifest().model_dump(mode="json"), "file": name, "name": "ok"}
        )
    assert made.status_code == 422
    assert model.status_code == 422


@pytest.mark.parametrize(
    "text", ["a" * 50_000, "a." * 20_000, "-" * 50_000, "0" * 60_000 + "!", "a-" * 25_000 + "!", "\t" * 50_000]
)
async def test_no_pattern_takes_long_over_a_text(plane: ControlPlane, admin: str, text: str):
    async with plane.client(admin) as client:
        for path, body in (("/endpoints", {**ENDPOINT, "name": text}), ("/enrolments", {"code": text, "name": text})):
            answer = await client.post(path, json=body)
            assert answer.status_code in (401, 404, 422)


async def test_an_idempotency_key_of_somebody_else_gives_nothing_away(plane: ControlPlane, admin: str):
    other = await plane.person(Role.PLATFORM_ADMIN, name="other")
    body = make_manifest().model_dump(mode="json")
    async with plane.client(admin) as client:
        first = await client.post("/models", json=body, headers={"Idempotency-Key": "same"})
    async with plane.client(other) as client:
        second = await client.post("/models", json=body, headers={"Idempotency-Key": "same"})
    assert first.status_code == 201
    assert "idempotent-replayed" not in second.headers


async def test_a_template_in_a_name_stays_text(plane: ControlPlane, admin: str):
    async with plane.client(admin) as client:
        reason = "{{7*7}} ${7*7} <%= 7*7 %> {% debug %}"
        body = {"action": "access_report.export", "subject": {"subject": "site"}, "reason": reason}
        made = await client.post("/approvals", json=body)
    assert made.json()["reason"] == reason


@pytest.mark.parametrize(
    "text", ["a\nlevel=error", "a\r\nb", "\x1b[31mred", "\u202ereversed", "a\u2028b", "x" * 100_000]
)
def test_a_log_line_stays_one_line_of_plain_text_whatever_it_tells_of(text: str, monkeypatch: pytest.MonkeyPatch):
    sink = io.StringIO()
    kept = structlog.get_config()
    monkeypatch.setattr("sys.stderr", sink)
    try:
        configure_logging("api")
        structlog.get_logger().info("request.denied", path=text)
    finally:
        structlog.configure(**kept)
        structlog.contextvars.clear_contextvars()
    (line, rest) = sink.getvalue().split("\n", 1)
    assert rest == ""
    assert json.loads(line)["path"] == text
    assert re.fullmatch(r"[\x20-\x7e]*", line)
