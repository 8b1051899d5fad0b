"""Enrolling, signing in and acting with the CLI, against a real API on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from tests.support.control_plane import ControlPlane
from tests.support.desk import Done, run_redoubt
from tests.support.enrolment import PASSWORD, console_code


class Desk:
    """One person's machine: a profile, a password file, and the command."""

    def __init__(self, home: Path, url: str, name: str) -> None:
        self.name, self.url = name, url
        self.profile = home / f"{name}.json"
        self.password = home / f"{name}.password"
        self.password.write_text(PASSWORD + "\n")

    async def run(self, *words: object) -> Done:
        return await run_redoubt(*words, environment={"REDOUBT_PROFILE": str(self.profile), "COLUMNS": "200"})

    async def enrol(self, code: str) -> Done:
        who = ("--name", self.name, "--password-file", self.password)
        return await self.run("enrol", "--url", self.url, "--code", code, *who, "--json")

    def kept(self) -> dict[str, str]:
        return json.loads(self.profile.read_text())

    def keep(self, **changes: str) -> None:
        self.profile.write_text(json.dumps({**self.kept(), **changes}))


@pytest.fixture
async def url(new_plane: ControlPlane) -> AsyncIterator[str]:
    """Serve the API of a site at which nobody is enrolled."""
    config = uvicorn.Config(new_plane.admin_app, port=0, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells it in no other way
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


@pytest.fixture
async def desks(new_plane: ControlPlane, url: str, tmp_path: Path) -> tuple[Desk, Desk, dict[str, dict]]:
    """Give the desks of both administrators, and what each was shown."""
    ada, grace = Desk(tmp_path, url, "ada"), Desk(tmp_path, url, "grace")
    first = await ada.enrol(await console_code(new_plane))
    assert first.code == 0, first.err
    second = await grace.enrol(first.json()["next_code"]["code"])
    assert second.code == 0, second.err
    return ada, grace, {"ada": first.json(), "grace": second.json()}


async def test_two_administrators_enrol_without_a_terminal_and_are_signed_in(desks) -> None:
    ada, grace, shown = desks
    assert set(shown["ada"]) == {"name", "roles", "otp_secret", "recovery_codes", "share", "next_code"}
    assert shown["grace"]["next_code"] is None
    assert ada.profile.stat().st_mode & 0o777 == 0o600
    me = (await grace.run("whoami", "--json")).json()
    assert (me["name"], me["roles"]) == ("grace", ["security-admin"])


async def test_before_the_second_administrator_the_command_names_the_next_step(
    new_plane: ControlPlane, url: str, tmp_path: Path
) -> None:
    ada = Desk(tmp_path, url, "ada")
    await ada.enrol(await console_code(new_plane))
    done = await ada.run("node", "list")
    assert done.code == 1
    assert "second administrator is not enrolled" in done.err
    assert "next:" in done.err
    assert "redoubt enrol" in done.err


async def test_a_used_code_is_exit_3_and_leaves_no_profile(desks, tmp_path: Path, url: str) -> None:
    _, _, shown = desks
    eve = Desk(tmp_path, url, "eve")
    done = await eve.enrol(shown["ada"]["next_code"]["code"])
    assert done.code == 3
    assert "wrong, used or expired" in done.err
    assert not eve.profile.exists()


async def test_a_token_that_ran_out_is_renewed_by_the_next_command(desks) -> None:
    ada, _, _ = desks
    before = ada.kept()
    ada.keep(expires_at="2020-01-01T00:00:00+00:00")
    assert (await ada.run("whoami")).code == 0
    assert ada.kept()["token"] != before["token"]
    assert ada.kept()["refresh"] != before["refresh"]


async def test_a_token_that_the_site_refuses_is_renewed_once_and_the_command_goes_on(desks) -> None:
    ada, _, _ = desks
    ada.keep(token="rdt_" + "x" * 43)
    assert (await ada.run("whoami")).code == 0


async def test_of_six_commands_that_renew_at_once_none_ends_the_session(desks) -> None:
    ada, _, _ = desks
    ada.keep(expires_at="2020-01-01T00:00:00+00:00")
    done = await asyncio.gather(*(ada.run("whoami") for _ in range(6)))
    assert [one.code for one in done] == [0] * 6, [one.err for one in done]


async def test_after_signing_out_the_next_command_says_how_to_come_back(desks, new_plane: ControlPlane) -> None:
    ada, _, shown = desks
    token = ada.kept()["token"]
    assert (await ada.run("sign-out")).code == 0
    done = await ada.run("whoami")
    assert (done.code, "next: redoubt sign-in" in done.err) == (3, True)
    async with new_plane.client(token) as client:
        assert (await client.get("/whoami")).status_code == httpx.codes.UNAUTHORIZED
    code = shown["ada"]["recovery_codes"][0]
    back = await ada.run("sign-in", "--password-file", ada.password, "--recovery-code", code)
    assert (back.code, back.out.startswith("signed in as ada")) == (0, True), back.err


async def test_a_wrong_password_is_exit_3_with_the_next_step(desks) -> None:
    ada, _, shown = desks
    ada.password.write_text("not the password\n")
    code = shown["ada"]["recovery_codes"][0]
    done = await ada.run("sign-in", "--password-file", ada.password, "--recovery-code", code)
    assert done.code == 3
    assert "next:" in done.err


async def test_without_a_terminal_a_second_factor_is_not_asked_for_but_named(desks, new_plane: ControlPlane) -> None:
    ada, _, _ = desks
    new_plane.clock.move(301)
    done = await ada.run("user", "create", "joe", "--role", "operator")
    assert done.code == 3
    assert "second factor" in done.err


async def test_users_and_roles_are_made_shown_and_taken(desks) -> None:
    ada, _, _ = desks
    made = await ada.run("user", "create", "joe", "--role", "operator")
    assert (made.code, "redoubt enrol --url" in made.out) == (0, True), made.err
    assert (await ada.run("role", "grant", "joe", "data-steward")).out == "joe is data-steward\n"
    assert (await ada.run("role", "revoke", "joe", "operator")).out == "joe is no operator any more\n"
    roles = (await ada.run("role", "list", "joe", "--json")).json()
    assert [(row["role"], row["revoked_at"] is None) for row in roles] == [("operator", False), ("data-steward", True)]
    refused = await ada.run("role", "grant", "joe", "auditor")
    assert (refused.code, "do not go together" in refused.err) == (3, True)
    users = (await ada.run("user", "list", "--json")).json()
    assert {"ada", "grace", "joe"} <= {user["name"] for user in users}
    assert (await ada.run("user", "disable", "joe")).code == 0
    assert (await ada.run("user", "show", "nobody")).code == 3
    assert (await ada.run("user", "create", "sam", "--role", "king")).code == 2


async def test_a_session_is_listed_and_ended(desks) -> None:
    ada, grace, _ = desks
    every = (await ada.run("session", "list", "--all", "--json")).json()
    mine = {row["id"] for row in (await ada.run("session", "list", "--json")).json()}
    other = next(row["id"] for row in every if row["id"] not in mine)
    assert (await ada.run("session", "revoke", other)).code == 0
    assert (await grace.run("whoami")).code == 3


async def test_break_glass_is_loud_in_the_holders_every_command_and_in_everybodys_whoami(desks, tmp_path: Path) -> None:
    ada, grace, shown = desks
    shares = tmp_path / "shares"
    shares.write_text("\n".join(shown[name]["share"] for name in ("ada", "grace")))
    opened = await grace.run("break-glass", "open", "--reason", "both are ill", "--shares-file", shares)
    assert (opened.code, "glass is broken" in opened.out) == (0, True), opened.err
    assert "BREAK-GLASS SESSION" in (await grace.run("node", "list")).err
    assert "BREAK-GLASS IS OPEN" in (await ada.run("whoami")).out
    assert (await grace.run("sign-out")).code == 0
    assert "BREAK-GLASS" not in (await ada.run("whoami")).out
    assert (await ada.run("break-glass", "show")).out.count("holds a share") == 2
    assert (await ada.run("break-glass", "share")).out.startswith("rdb_")
