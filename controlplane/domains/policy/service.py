"""The one question every verb asks."""

from controlplane.domains.audit.types import Actor
from controlplane.domains.policy import rules
from controlplane.domains.policy.types import Resource
from controlplane.kit.errors import Denied
from controlplane.kit.tx import Tx


async def require(tx: Tx, actor: Actor, action: str, resource: str | Resource) -> None:
    """Raise Denied unless the actor may do `action` to `resource`. `tx` is for policies that live in the database."""
    del tx
    if not rules.permits(actor, action):
        raise Denied(
            f"{actor.role} {actor.id} may not {action} on {resource}",
            remedy="ask a platform administrator, or use a key whose role allows it",
        )
