"""People of a site and policy sets for tests, without signing in."""

from datetime import timedelta

from controlplane.contracts.policy import DraftSet, Example
from controlplane.domains.audit.types import Actor, Role
from controlplane.domains.policy import service as policy
from controlplane.domains.policy.rules import drafts, shipped
from controlplane.domains.policy.tables import Approval, PolicyPublication
from controlplane.kit.clock import SystemClock
from controlplane.kit.tx import Database

NO_DELETES = """
@id("nobody-deletes-endpoints")
forbid (principal, action == Action::"endpoint.delete", resource);
"""


def person(name: str, *roles: Role, project: str = "", strong: bool = True) -> Actor:
    """Return somebody who has just shown a second factor, or never did."""
    strong_at = SystemClock().now() + timedelta(seconds=1) if strong else None
    return Actor(name, roles[0], frozenset(roles), project=project, strong_at=strong_at)


def admin_now() -> Actor:
    """Return the administrator; each call anew, because a second factor gets old while a whole run goes on."""
    return person("ada", Role.PLATFORM_ADMIN, Role.OPERATOR)


def security_now() -> Actor:
    return person("sam", Role.SECURITY_ADMIN)


def second_now() -> Actor:
    return person("sue", Role.SECURITY_ADMIN)


def draft(more: str = NO_DELETES, *examples: Example, note: str = "a change") -> DraftSet:
    """Return the shipped set with something more."""
    return DraftSet(
        note=note, policies=shipped.shipped_policies() + more, examples=(*drafts.shipped_examples(), *examples)
    )


async def approved(database: Database, change: DraftSet | int) -> tuple[int, Approval]:
    """Propose as the administrator, approve as security; an int is a version that is there."""
    async with database.transaction() as tx:
        if isinstance(change, int):
            version, asked = change, await policy.propose_publication(tx, admin_now(), version=change, reason="back")
        else:
            made, asked = await policy.propose_set(tx, admin_now(), draft=change)
            version = made.version
    async with database.transaction() as tx:
        return version, await policy.approve(tx, security_now(), approval_id=asked.id)


async def publish(database: Database, change: DraftSet | int) -> PolicyPublication:
    """Propose, approve and publish."""
    version, approval = await approved(database, change)
    async with database.transaction() as tx:
        return await policy.publish_set(tx, admin_now(), version=version, approval_id=approval.id)
