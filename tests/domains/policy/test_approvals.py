"""Two people: one asks, a security administrator lets it happen, and it happens once."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from controlplane.domains.audit.types import Role
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.types import PolicyDenied, StepUpRequired
from controlplane.kit.errors import BadInput, NotFound, Refused
from tests.support.control_plane import ControlPlane
from tests.support.policy_sets import admin_now, person, second_now, security_now

SUBJECT = {"version": 3, "sha256": "ab"}


async def propose(plane: ControlPlane, actor=None, hours: int = 1) -> str:
    async with plane.database.transaction() as tx:
        made = await policy.propose(
            tx,
            actor or admin_now(),
            action="policy.publish",
            subject=SUBJECT,
            reason="why",
            lifetime=timedelta(hours=hours),
        )
        return made.id


async def approve(plane: ControlPlane, approval_id: str, actor=None) -> None:
    async with plane.database.transaction() as tx:
        await policy.approve(tx, actor or security_now(), approval_id=approval_id)


async def spend(plane: ControlPlane, approval_id: str, actor=None, action="policy.publish", subject=None) -> None:
    async with plane.database.transaction() as tx:
        await policy.spend_approval(
            tx, actor or admin_now(), approval_id, action, SUBJECT if subject is None else subject
        )


async def test_an_approval_is_spent_once_by_six_who_try_at_once(plane: ControlPlane):
    approval = await propose(plane)
    await approve(plane, approval)

    answers = await asyncio.gather(*(spend(plane, approval) for _ in range(6)), return_exceptions=True)

    assert sorted(type(a).__name__ for a in answers) == ["NoneType", *["Refused"] * 5]


async def test_of_six_decisions_at_once_one_counts(plane: ControlPlane):
    approval = await propose(plane)

    async def refuse() -> None:
        async with plane.database.transaction() as tx:
            await policy.refuse(tx, second_now(), approval_id=approval)

    asked = [work for _ in range(3) for work in (approve(plane, approval), refuse())]
    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(a).__name__ for a in answers if a is not None] == ["Refused"] * 5


async def test_nobody_approves_what_they_proposed(plane: ControlPlane):
    approval = await propose(plane, security_now())

    with pytest.raises(Refused, match="themselves"):
        await approve(plane, approval, security_now())


async def test_the_database_itself_refuses_one_person_in_both_places(plane: ControlPlane):
    approval = await propose(plane)

    with pytest.raises(IntegrityError, match="ck_approvals_two_people"):
        async with plane.database.transaction() as tx:
            await tx.session.execute(
                text("update approvals set approved_by = proposed_by, approved_at = now() where id = :id"),
                {"id": approval},
            )


@pytest.mark.parametrize("role", sorted(set(Role) - {Role.SECURITY_ADMIN}))
async def test_only_a_security_administrator_approves(plane: ControlPlane, role: Role):
    approval = await propose(plane)

    with pytest.raises(PolicyDenied):
        await approve(plane, approval, person("bob", role))


async def test_an_approver_without_a_fresh_second_factor_is_asked_for_it(plane: ControlPlane):
    approval = await propose(plane)

    with pytest.raises(StepUpRequired):
        await approve(plane, approval, person("sam", Role.SECURITY_ADMIN, strong=False))


async def test_what_nobody_approved_is_not_spent(plane: ControlPlane):
    with pytest.raises(Refused, match="waiting"):
        await spend(plane, await propose(plane))


async def test_an_approval_ends(plane: ControlPlane):
    approval = await propose(plane)
    await approve(plane, approval)
    plane.clock.move(3601)

    with pytest.raises(Refused, match="expired"):
        await spend(plane, approval)


@pytest.mark.parametrize("subject", [{"version": 4, "sha256": "ab"}, {"version": 3}, {**SUBJECT, "more": 1}, {}])
async def test_an_approval_counts_for_its_own_subject_alone(plane: ControlPlane, subject):
    approval = await propose(plane)
    await approve(plane, approval)

    with pytest.raises(Refused, match="something else"):
        await spend(plane, approval, subject=subject)


async def test_an_approval_counts_for_its_own_action_alone(plane: ControlPlane):
    approval = await propose(plane)
    await approve(plane, approval)

    with pytest.raises(Refused, match="something else"):
        await spend(plane, approval, action="endpoint.delete")


async def test_a_third_person_does_not_spend_it(plane: ControlPlane):
    approval = await propose(plane)
    await approve(plane, approval)

    with pytest.raises(Refused, match="two other people"):
        await spend(plane, approval, second_now())


async def test_a_spent_approval_comes_back_when_its_change_was_rolled_back(plane: ControlPlane):
    approval = await propose(plane)
    await approve(plane, approval)

    async with plane.database.transaction() as tx:
        await policy.spend_approval(tx, admin_now(), approval, "policy.publish", SUBJECT)
        await tx.session.rollback()

    await spend(plane, approval)


async def test_who_proposed_takes_it_back_and_nobody_approves_it_then(plane: ControlPlane):
    approval = await propose(plane)
    async with plane.database.transaction() as tx:
        await policy.refuse(tx, admin_now(), approval_id=approval)

    with pytest.raises(Refused, match="refused already"):
        await approve(plane, approval)


async def test_only_who_may_do_a_thing_may_propose_it(plane: ControlPlane):
    with pytest.raises(PolicyDenied):
        await propose(plane, person("bob", Role.OPERATOR))


async def test_an_action_that_wants_one_person_takes_no_approval(plane: ControlPlane):
    with pytest.raises(BadInput, match="no second person"):
        async with plane.database.transaction() as tx:
            await policy.propose(
                tx, admin_now(), action="node.read", subject={}, reason="why", lifetime=timedelta(hours=1)
            )


async def test_an_approval_that_is_not_there_is_not_found(plane: ControlPlane):
    with pytest.raises(NotFound):
        await spend(plane, "approval_none")
