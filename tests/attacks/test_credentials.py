"""Keys that are code, enormous, or look like other keys (LiteLLM CVE-2026-42208, CVE-2026-35030)."""

from dataclasses import dataclass

import httpx
import pytest
from sqlalchemy import event

from controlplane.domains.audit.types import Role
from tests.support.control_plane import ControlPlane

SHAPES = [
    "'", '"', "' or '1'='1", "' or 1=1 --", "'; drop table principals; --", "\\'; select pg_sleep(5) --", "$1", "$$x$$",
    "%27%20or%201=1",
    "rdt_' union select secret from tokens --", "rdt_" + "%" * 43, "rdt_" + "_" * 43, "null", "0", "-1",
    "{{7*7}}", "${7*7}", "../../etc/passwd", "rdt_" + "a" * 43 + "\u00e9", "Bearer rdt_x", "rdt_\u202e" + "x" * 42,
]  # fmt: skip
HEADERS = [
    "Authorization",
    "Cookie",
    "Idempotency-Key",
    "User-Agent",
    "X-Forwarded-For",
    "X-Api-Key",
    "Referer",
    "Origin",
]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_key_that_is_code_is_only_a_wrong_key(plane: ControlPlane, shape: str):
    async with plane.client() as client:
        answer = await client.get("/whoami", headers=[(b"Authorization", f"Bearer {shape}".encode())])
    assert answer.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(
    "value", [b"\0", b"a\0b", b"x" * (64 << 10), b"'; drop table audit_events; --", b"\xff\xfe", b"\x1b[2J"]
)
async def test_no_header_at_all_makes_a_fault_or_an_answer(plane: ControlPlane, name: str, value: bytes):
    async with plane.client() as client:
        answer = await client.post("/endpoints", headers=[(name.encode(), value)], content=b"{}")
    assert 400 <= answer.status_code < 500


@dataclass
class Statements:
    """What was sent to the database, and what was bound beside it."""

    texts: list[str]


async def test_a_key_is_bound_and_never_part_of_a_statement(plane: ControlPlane):
    seen = Statements([])
    engine = plane.database._engine.sync_engine  # noqa: SLF001 - the statements of this very engine
    event.listen(engine, "before_cursor_execute", lambda _c, _r, statement, *_: seen.texts.append(statement))
    async with plane.client("rdt_' or '1'='1") as client:
        await client.get("/nodes/robert'); drop table nodes; --")
    assert seen.texts
    assert not [text for text in seen.texts if "or '1'='1" in text or "drop table" in text]


async def test_a_key_counts_by_its_whole_digest_and_its_kind(plane: ControlPlane):
    made = await plane.signed_in(Role.OPERATOR)
    token = made.access
    alike = [token[:-1], token + "x", token[:-1] + ("a" if token[-1] != "a" else "b"), token.upper(), token.swapcase()]
    alike += [made.refresh, token.replace("rdt_", "rds_", 1), token.replace("rdt_", "rdr_", 1), token[4:]]
    for wrong in alike:
        async with plane.client() as client:
            answer = await client.get("/whoami", headers=[(b"Authorization", f"Bearer {wrong}".encode())])
        assert answer.status_code == httpx.codes.UNAUTHORIZED, wrong
    async with plane.client(token) as client:
        assert (await client.get("/whoami")).status_code == httpx.codes.OK


async def test_an_answer_to_one_is_never_given_to_another(plane: ControlPlane):
    """Nothing is remembered between requests, so two tokens that come in turn are two people each time."""
    one, other = await plane.person(Role.OPERATOR, name="one"), await plane.person(Role.AUDITOR, name="other")
    seen = []
    for token in (one, other, one, other):
        async with plane.client(token) as client:
            seen.append((await client.get("/whoami")).json()["role"])
    assert seen == ["operator", "auditor", "operator", "auditor"]


@pytest.mark.parametrize("place", ["?access_token=", "?token=", "?key=", "?api_key="])
async def test_a_credential_in_an_address_is_none(plane: ControlPlane, admin: str, place: str):
    async with plane.client() as client:
        assert (await client.get(f"/whoami{place}{admin}")).status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.parametrize(
    "header", ["X-Api-Key", "Api-Key", "X-Auth-Token", "Proxy-Authorization", "X-User", "X-Forwarded-User"]
)
async def test_a_credential_in_another_header_is_none(plane: ControlPlane, admin: str, header: str):
    async with plane.client() as client:
        assert (await client.get("/whoami", headers={header: admin})).status_code == httpx.codes.UNAUTHORIZED
