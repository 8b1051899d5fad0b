"""The decision, until operators can write their own: a role may do what its row says, and nothing else."""

from controlplane.domains.audit.types import Actor, Role

_ADMIN_VERBS = frozenset({
    "audit.read", "api_key.create", "api_key.read", "api_key.revoke", "node.declare", "node.read", "lease.read",
    "model.register", "model.read", "endpoint.create", "endpoint.read", "endpoint.revise", "endpoint.delete",
    "incident.read",
})  # fmt: skip
_MAY: dict[Role, frozenset[str]] = {
    Role.PLATFORM_ADMIN: _ADMIN_VERBS,
    Role.NODE: frozenset({"node.report", "proof.report"}),
    Role.GATEWAY: frozenset({"snapshot.read"}),
    Role.RUN: frozenset({"replica.register", "replica.renew"}),
    Role.NEWCOMER: frozenset({"principal.enrol"}),
    Role.SYSTEM: frozenset({
        "enrolment_code.create", "lease.grant", "lease.end", "replica.plan", "replica.start", "replica.end",
        "snapshot.publish", "incident.settle",
    }),
}  # fmt: skip


def permits(actor: Actor, action: str) -> bool:
    """Say whether the actor's role has this verb; an unknown role or verb is a no."""
    return action in _MAY.get(actor.role, frozenset())
