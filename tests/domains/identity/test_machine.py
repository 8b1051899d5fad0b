"""Any order of sign-ins, refreshes, replays, revocations, grants and disablings leaves the same promises kept."""

import asyncio
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import text

from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.identity import rules
from controlplane.domains.identity.service import people, sessions
from controlplane.domains.identity.types import GRANTABLE, IssuedTokens
from controlplane.kit.errors import RedoubtError
from tests.support.control_plane import ControlPlane, make_control_plane
from tests.support.database import empty, migrate, running_server

pytestmark = pytest.mark.slow
NAMES = ("ann", "bob")
OFFICES = frozenset({Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN})
Result = TypeVar("Result")


class Identity(RuleBasedStateMachine):
    """Two people, what a reader of the decision would expect of their tokens and roles, and the real database."""

    url = ""
    loop: asyncio.AbstractEventLoop

    @initialize()
    def begin(self) -> None:
        self.wait(empty(self.url))
        self.plane: ControlPlane = make_control_plane(self.url)
        self.wait(self.plane.seal())
        self.live: list[tuple[str, IssuedTokens]] = []
        self.dead: list[IssuedTokens] = []
        self.spent: list[tuple[str, IssuedTokens]] = []
        self.disabled: set[str] = set()
        self.shut: set[str] = set()
        self.roles: dict[str, set[Role]] = {name: {Role.DATA_STEWARD} for name in NAMES}
        for name in NAMES:
            self.wait(self.plane.signed_in(Role.DATA_STEWARD, name=name))
        for office in OFFICES:  # somebody stays in office whatever happens to ann and bob
            self.wait(self.plane.signed_in(office, name=f"chief {office}"))

    def teardown(self) -> None:
        if hasattr(self, "plane"):
            self.wait(self.plane.database.close())
            self.wait(self.plane.means.aside.close())

    @rule(name=st.sampled_from(NAMES))
    def sign_in(self, name: str) -> None:
        made = self.tried(self.plane.signed_in(name=name))
        assert (made is None) == (name in self.disabled | self.shut)
        if made is not None:
            self.live.append((name, made))

    @rule(which=st.integers(0, 9))
    def refresh(self, which: int) -> None:
        if not self.live:
            return
        name, old = self.live.pop(which % len(self.live))
        made = self.tried(self._refresh(old.refresh))
        assert made is not None
        self.spent.append((name, old))
        self.live.append((name, made))

    @rule(which=st.integers(0, 9))
    def replay(self, which: int) -> None:
        """A refresh token comes a second time: its family is over."""
        if not self.spent:
            return
        _, old = self.spent[which % len(self.spent)]
        assert self.tried(self._refresh(old.refresh)) is None
        self.over(lambda _, made: made.session_id == old.session_id)

    @rule(which=st.integers(0, 9))
    def sign_out(self, which: int) -> None:
        if not self.live:
            return
        name, made = self.live[which % len(self.live)]
        if not self.roles[name]:
            return
        self.wait(self._sign_out(made.access))
        self.over(lambda _, other: other.session_id == made.session_id)

    @rule(name=st.sampled_from(NAMES))
    def disable(self, name: str) -> None:
        office = Role.SECURITY_ADMIN if Role.SECURITY_ADMIN in self.roles[name] else Role.PLATFORM_ADMIN
        self.wait(self._verb(people.disable_user, office, name=name))
        self.disabled.add(name)
        self.over(lambda who, _: who == name)

    @rule(name=st.sampled_from(NAMES), role=st.sampled_from(GRANTABLE))
    def grant(self, name: str, role: Role) -> None:
        done = self.tried(self._verb(people.grant_role, _office_for(role), name=name, role=role))
        allowed = rules.is_staff([role]) and rules.duty_conflict(self.roles[name], role) is None
        assert (done is not None) == allowed
        if not allowed:
            return
        if role == Role.SECURITY_ADMIN and role not in self.roles[name]:  # enrols anew, which nobody here does
            self.shut.add(name)
            self.over(lambda who, _: who == name)
        self.roles[name].add(role)

    @rule(name=st.sampled_from(NAMES), role=st.sampled_from(GRANTABLE))
    def revoke(self, name: str, role: Role) -> None:
        done = self.tried(self._verb(people.revoke_role, _office_for(role), name=name, role=role))
        assert (done is not None) == (role in self.roles[name])
        self.roles[name].discard(role)

    @invariant()
    def tokens_are_as_expected(self) -> None:
        if not hasattr(self, "plane"):
            return
        for name, made in self.live[-4:]:
            actor = self.tried(self._actor(made.access))
            assert (actor is not None) == bool(self.roles[name])
            assert actor is None or actor.roles == self.roles[name]
        for made in self.dead[-4:]:
            assert self.tried(self._actor(made.access)) is None
            assert self.tried(self._refresh(made.refresh)) is None

    @invariant()
    def duties_are_kept_apart(self) -> None:
        if not hasattr(self, "plane"):
            return
        for held in self.wait(self._held()).values():
            assert all(rules.duty_conflict(held - {role}, role) is None for role in held)

    def over(self, is_over) -> None:
        self.dead += [made for who, made in self.live + self.spent if is_over(who, made)]
        self.live = [(who, made) for who, made in self.live if not is_over(who, made)]
        self.spent = [(who, made) for who, made in self.spent if not is_over(who, made)]

    def wait(self, work: Awaitable[Result]) -> Result:
        async def run() -> Result:
            return await work

        return self.loop.run_until_complete(run())

    def tried(self, work: Awaitable[Result]) -> Result | None:
        try:
            return self.wait(work)
        except RedoubtError:
            return None

    async def _refresh(self, secret: str) -> IssuedTokens:
        async with self.plane.database.transaction() as tx:
            return await sessions.refresh_session(tx, secret, client="cli", source="")

    async def _actor(self, secret: str) -> Actor:
        async with self.plane.database.transaction() as tx:
            return await sessions.authenticate(tx, secret, source="")

    async def _sign_out(self, secret: str) -> None:
        async with self.plane.database.transaction() as tx:
            await sessions.end_session(tx, await sessions.authenticate(tx, secret, source=""))

    async def _verb(self, verb, office: Role, **words):
        """Do it as the chief of an office who showed a second factor just now."""
        async with self.plane.database.transaction() as tx:
            return await verb(tx, Actor("chief", office, strong_at=tx.now), **words)

    async def _held(self) -> dict[str, set[Role]]:
        found: dict[str, set[Role]] = {}
        async with self.plane.database.transaction() as tx:
            query = text("select principal_id, role from role_grants where revoked_at is null")
            for principal_id, role in (await tx.session.execute(query)).all():
                found.setdefault(principal_id, set()).add(Role(role))
        return found


def _office_for(role: Role) -> Role:
    return Role.SECURITY_ADMIN if role == Role.SECURITY_ADMIN else Role.PLATFORM_ADMIN


@pytest.fixture
def machine_url(tmp_path: Path) -> Iterator[str]:
    with running_server(tmp_path / "postgres") as url:
        migrate(url)
        yield url


def test_no_order_of_events_revives_a_token_or_mixes_duties(machine_url: str) -> None:
    loop = asyncio.new_event_loop()
    machine = type("Machine", (Identity,), {"url": machine_url, "loop": loop})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=8, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        loop.close()
