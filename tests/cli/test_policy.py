"""redoubt policy and redoubt approval as people run them, against an api on loopback."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn
import yaml

from controlplane.cli.policy_file import read_draft
from controlplane.domains.audit.types import Role
from controlplane.kit.errors import BadInput
from tests.support.control_plane import ControlPlane

REDOUBT = Path(sys.executable).parent / "redoubt"
NO_LEASES = '\n@id("nobody-reads-leases")\nforbid (principal, action == Action::"lease.read", resource);\n'


class Somebody:
    """Runs the command with an access token."""

    def __init__(self, url: str, token: str, home: Path) -> None:
        self.environment = {
            "PATH": "/usr/bin:/bin", "HOME": str(home), "NO_COLOR": "1", "REDOUBT_URL": url, "REDOUBT_TOKEN": token,
            "COLUMNS": "200",
        }  # fmt: skip

    async def run(self, *words: str, code: int = 0, told: str | None = None) -> str:
        done = await asyncio.to_thread(self._run, words, told)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def _run(self, words: tuple[str, ...], told: str | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [REDOUBT, *words], input=told, capture_output=True, text=True, env=self.environment, check=False
        )


@pytest.fixture
async def url(plane: ControlPlane) -> AsyncIterator[str]:
    """Serve the admin API on a free port of loopback."""

    async def named(scope, receive, send) -> None:
        """Call the host what the plane of tests is called."""
        headers = [(name, b"api" if name == b"host" else value) for name, value in scope["headers"]]
        await plane.admin_app({**scope, "headers": headers}, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(named, log_level="warning", lifespan="off", loop="none")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listener]))  # a caller before it accepts waits in the backlog
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def ada(url: str, admin: str, tmp_path: Path) -> Somebody:
    return Somebody(url, admin, tmp_path)


@pytest.fixture
async def sam(url: str, plane: ControlPlane, tmp_path: Path) -> Somebody:
    return Somebody(url, await plane.person(Role.SECURITY_ADMIN, name="sam"), tmp_path)


async def test_a_set_is_shown_edited_checked_proposed_approved_published_and_rolled_back(
    ada: Somebody, sam: Somebody, tmp_path: Path
):
    await ada.run("lease", "list")
    file = tmp_path / "site.yml"
    shown = yaml.safe_load(await ada.run("policy", "show"))
    file.write_text(yaml.safe_dump({**shown, "policies": shown["policies"] + NO_LEASES, "note": "leases are private"}))

    assert (await ada.run("policy", "check", str(file))).startswith("sound: 30 policies, 10 examples")
    proposed = await ada.run("policy", "propose", str(file))
    assert "would have flipped 1 of the last" in proposed
    assert "nobody-reads-leases" in proposed
    assert "lease.read" in await sam.run("policy", "replay", "1")
    await ada.run("policy", "publish", "1", code=3)
    assert "Approve it?" in await sam.run("policy", "approve", "1", told="n\n", code=1)
    await sam.run("policy", "approve", "1", told="y\n")
    await ada.run("policy", "publish", "1", "--yes")
    assert "explain me lease.read" in await ada.run("lease", "list", code=3)
    back = json.loads(await ada.run("policy", "roll-back", "0", "--json"))
    await sam.run("approval", "approve", back["approval_id"])
    await ada.run("policy", "publish", "0", "--yes")

    await ada.run("lease", "list")
    history = json.loads(await ada.run("policy", "history", "--json"))
    assert [(row["version"], row["flipped"]) for row in history] == [(0, 2), (1, 1)]


async def test_an_answer_is_explained_to_people_and_to_programs(ada: Somebody):
    told = await ada.run("policy", "explain", "bob", "node.declare", "gpu1", "--role", "operator", code=3)
    data = json.loads(await ada.run("policy", "explain", "bob", "node.declare", "--role", "operator", "--json", code=3))

    assert "bob (operator) may not node.declare on gpu1" in told
    assert "with the role platform-admin too: may" in told
    assert data["outcome"] == "deny"
    assert "(operator, platform-admin) may node.declare" in await ada.run("policy", "explain", "me", "node.declare")


async def test_a_missing_second_factor_is_said(ada: Somebody):
    told = await ada.run("policy", "explain", "x", "approval.decide", "--role", "security-admin", "--no-factor", code=3)

    assert "may, after a second factor, approval.decide" in told
    assert "with a second factor shown now: may" in told


async def test_an_approval_is_proposed_listed_shown_refused_and_gone(ada: Somebody, sam: Somebody):
    made = json.loads(await ada.run("approval", "propose", "policy.publish", "version=1", "sha256=ab", "--json"))

    assert made["subject"] == {"version": 1, "sha256": "ab"}
    assert made["id"] in await sam.run("approval", "list")
    assert "waiting" in await sam.run("approval", "show", made["id"])
    await ada.run("approval", "approve", made["id"], code=3)
    await sam.run("approval", "refuse", made["id"])
    assert "nothing waits" in await sam.run("approval", "list")
    assert made["id"] in await sam.run("approval", "list", "--all")


async def test_the_verbs_and_the_versions_are_listed(ada: Somebody):
    assert "endpoint.create" in await ada.run("policy", "verbs")
    assert "shipped with this version" in await ada.run("policy", "list")


@pytest.mark.parametrize(
    ("content", "says"),
    [("a: [", "no policy file"), ("[]", "valid dictionary"), ("note: x\npolicies: y\nexamples: []", "examples"),
     ("note: x\npolicies: y\nexamples: [{expect: maybe, verb: a.b}]", "expect"), ("note: x\nmore: 1", "more")],
)  # fmt: skip
def test_a_file_that_is_no_set_is_refused_with_the_place(tmp_path: Path, content: str, says: str):
    file = tmp_path / "set.yml"
    file.write_text(content)

    with pytest.raises(BadInput) as refused:
        read_draft(file)

    assert any(says in reason for reason in (refused.value.detail, *refused.value.reasons))
