import asyncio
from collections.abc import Awaitable

import pytest
from sqlalchemy import text

from controlplane.domains.audit.types import Role
from controlplane.domains.identity.service import sessions
from controlplane.domains.identity.types import IssuedTokens, TokenKind
from controlplane.kit.errors import Denied, RedoubtError, Unauthenticated
from controlplane.kit.paging import Page
from tests.support.control_plane import ControlPlane


async def actor_of(plane: ControlPlane, secret: str, kind: TokenKind = TokenKind.ACCESS):
    async with plane.database.transaction() as tx:
        return await sessions.authenticate(tx, secret, source="10.0.0.1", kind=kind)


async def refresh(plane: ControlPlane, secret: str, client: str = "cli") -> IssuedTokens:
    async with plane.database.transaction() as tx:
        return await sessions.refresh_session(tx, secret, client=client, source="10.0.0.1")


async def outcome(work: Awaitable[IssuedTokens]) -> IssuedTokens | str:
    try:
        return await work
    except RedoubtError as error:
        return error.code


async def test_an_actor_has_every_role_its_session_its_source_and_its_second_factor(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR, Role.PLATFORM_ADMIN)
    actor = await actor_of(plane, made.access)
    assert actor.roles == {Role.OPERATOR, Role.PLATFORM_ADMIN}
    assert (actor.role, actor.session, actor.source) == (Role.PLATFORM_ADMIN, made.session_id, "10.0.0.1")
    assert actor.method == "password+totp"
    assert actor.strong_at is not None


async def test_a_token_of_one_kind_is_refused_where_another_is_wanted(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    for secret, kind in ((made.refresh, TokenKind.ACCESS), (made.access, TokenKind.COOKIE), ("", TokenKind.ACCESS)):
        with pytest.raises(Unauthenticated):
            await actor_of(plane, secret, kind)
    with pytest.raises(Unauthenticated):
        await refresh(plane, made.access)


async def test_an_access_token_ends_after_ten_minutes_and_its_successor_goes_on(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    plane.clock.move(601)
    with pytest.raises(Unauthenticated):
        await actor_of(plane, made.access)
    renewed = await refresh(plane, made.refresh)
    assert (await actor_of(plane, renewed.access)).session == made.session_id


async def test_a_session_that_nobody_used_for_half_an_hour_is_over(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    plane.clock.move(1801)
    assert await outcome(refresh(plane, made.refresh)) == "unauthenticated"


async def test_a_session_ends_after_eight_hours_however_often_it_was_refreshed(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    for _ in range(19):
        plane.clock.move(1500)
        made = await refresh(plane, made.refresh)
    plane.clock.move(301)
    assert await outcome(refresh(plane, made.refresh)) == "unauthenticated"
    with pytest.raises(Unauthenticated):
        await actor_of(plane, made.access)


async def test_a_refresh_token_that_is_used_twice_ends_every_token_of_its_family(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    renewed = await refresh(plane, made.refresh)
    assert await outcome(refresh(plane, made.refresh)) == "token_reused"
    for secret in (made.access, renewed.access):
        with pytest.raises(Unauthenticated):
            await actor_of(plane, secret)
    assert await outcome(refresh(plane, renewed.refresh)) == "unauthenticated"


async def test_the_second_use_is_on_record_though_its_request_was_refused(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    await refresh(plane, made.refresh)
    await outcome(refresh(plane, made.refresh))
    async with plane.database.transaction() as tx:
        query = text("select resource from audit_events where event = 'session.reuse_detected'")
        assert (await tx.session.scalars(query)).all() == [made.session_id]


async def test_of_six_who_use_one_refresh_token_at_once_one_wins_and_none_keeps_the_session(
    plane: ControlPlane,
) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    found = await asyncio.gather(*(outcome(refresh(plane, made.refresh)) for _ in range(6)))
    won = [one for one in found if isinstance(one, IssuedTokens)]
    assert len(won) == 1
    assert found.count("token_reused") >= 1
    with pytest.raises(Unauthenticated):
        await actor_of(plane, won[0].access)


async def test_another_client_cannot_use_a_refresh_token_and_does_not_use_it_up(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    assert await outcome(refresh(plane, made.refresh, client="other")) == "unauthenticated"
    assert isinstance(await outcome(refresh(plane, made.refresh)), IssuedTokens)


async def test_a_session_that_is_ended_is_refused_at_the_next_request(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    async with plane.database.transaction() as tx:
        await sessions.end_session(tx, await sessions.authenticate(tx, made.access, source=""))
    with pytest.raises(Unauthenticated):
        await actor_of(plane, made.access)
    assert await outcome(refresh(plane, made.refresh)) == "unauthenticated"


async def test_nobody_but_an_administrator_ends_anothers_session(plane: ControlPlane) -> None:
    made, other = await plane.signed_in(Role.OPERATOR), await plane.signed_in(Role.DATA_STEWARD)
    chief = await plane.signed_in(Role.SECURITY_ADMIN)
    async with plane.database.transaction() as tx:
        other_actor = await sessions.authenticate(tx, other.access, source="")
        with pytest.raises(Denied):
            await sessions.end_session(tx, other_actor, session_id=made.session_id)
        await sessions.end_session(
            tx, await sessions.authenticate(tx, chief.access, source=""), session_id=made.session_id
        )
    with pytest.raises(Unauthenticated):
        await actor_of(plane, made.access)


async def test_a_second_factor_that_was_shown_is_noted_with_its_time(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR, strong=False)
    actor = await actor_of(plane, made.access)
    assert actor.strong_at is None
    async with plane.database.transaction() as tx:
        await sessions.mark_strong(tx, actor, methods=("totp",))
    again = await actor_of(plane, made.access)
    assert again.strong_at is not None
    assert again.method == "password+totp"


async def test_everybody_lists_his_own_sessions_and_an_administrator_all(plane: ControlPlane) -> None:
    made, chief = await plane.signed_in(Role.OPERATOR), await plane.signed_in(Role.PLATFORM_ADMIN)
    page = Page(50, None)
    async with plane.database.transaction() as tx:
        own = await sessions.list_sessions(tx, await sessions.authenticate(tx, made.access, source=""), page=page)
        admin = await sessions.authenticate(tx, chief.access, source="")
        every = await sessions.list_sessions(tx, admin, page=page, every=True)
    assert [row.id for row in own] == [made.session_id]
    assert {row.id for row in every} == {made.session_id, chief.session_id}


async def test_no_secret_of_a_session_is_in_the_database(plane: ControlPlane) -> None:
    made = await plane.signed_in(Role.OPERATOR)
    async with plane.database.transaction() as tx:
        query = text("select tokens::text || sessions::text from tokens, sessions")
        kept = "".join((await tx.session.scalars(query)).all())
    assert kept
    assert made.access[4:] not in kept
    assert made.refresh[4:] not in kept


async def test_a_look_up_is_one_statement_on_the_tokens_own_index(plane: ControlPlane) -> None:
    await plane.signed_in(Role.OPERATOR)
    async with plane.database.transaction() as tx:
        await tx.session.execute(text("set local enable_seqscan = off"))
        query = text("explain select 1 from tokens where sha256 = 'x' and used_at is null")
        plan = "\n".join((await tx.session.scalars(query)).all())
    assert "pk_tokens" in plan
