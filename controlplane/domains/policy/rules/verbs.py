"""The table of verbs: the schema, the shipped policies and the tests are made of it. What is not here is denied.

A new verb is one line, in the block of its domain: read(name, roles) or write(name, roles), with what Verb says.
Break-glass has every verb of the staff without being named.
"""

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.types import PEOPLE, STAFF, Kind, Verb, Verbs

PA, SA, OP, DS, AU = (
    Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN, Role.OPERATOR, Role.DATA_STEWARD, Role.AUDITOR,
)  # fmt: skip
TA, TU = Role.TENANT_ADMIN, Role.TENANT_USER
NODE, GATEWAY, RUN, NEWCOMER, SYSTEM = Role.NODE, Role.GATEWAY, Role.RUN, Role.NEWCOMER, Role.SYSTEM


def read(name: str, *roles: Role, own: bool = False, shared: bool = False) -> Verb:
    return Verb(name, Kind.READ, _with_break_glass(roles), own=own, shared=shared)


def write(
    name: str,
    *roles: Role,
    dangerous: bool = False,
    own: bool = False,
    moves: bool = False,
    four_eyes: bool = False,
) -> Verb:
    return Verb(
        name, Kind.WRITE, _with_break_glass(roles), dangerous=dangerous, own=own, moves=moves, four_eyes=four_eyes
    )


def _with_break_glass(roles: tuple[Role, ...]) -> frozenset[Role]:
    return frozenset({*roles, Role.BREAK_GLASS}) if STAFF.intersection(roles) else frozenset(roles)


def to_table(*lines: Verb) -> Verbs:
    """Return the table; raises ValueError when a verb has two lines, because then one of them is not read."""
    table = {line.name: line for line in lines}
    if len(table) != len(lines):
        raise ValueError(f"twice in the table: {sorted(v.name for v in lines if table[v.name] is not v)}")
    return table


VERBS: Verbs = to_table(
    # audit
    write("audit.erase", SA, dangerous=True, four_eyes=True),
    write("audit.hold", SA),
    write("audit.purge", SA, dangerous=True, four_eyes=True),
    read("audit.read", PA, SA, AU),
    write("audit.release", SA, dangerous=True, four_eyes=True),
    # policy
    read("access.check", PA, SA, OP, DS, AU),
    read("access.check_own", *PEOPLE, own=True),
    read("approval.read", PA, SA, OP, DS, AU),
    write("approval.propose", PA, SA, OP, DS),
    Verb("approval.decide", Kind.WRITE, frozenset({SA}), dangerous=True),  # break-glass approves nothing
    read("policy.read", PA, SA, OP, AU),
    write("policy.propose", PA, SA, dangerous=True),
    write("policy.publish", PA, SA, dangerous=True, four_eyes=True),
    # pki
    write("certificate.issue", SYSTEM),
    read("certificate.read", PA, SA, OP, AU),
    write("certificate.renew", NODE, GATEWAY, own=True),
    write("join.approve", PA, dangerous=True),
    read("join.read", PA, SA, AU),
    write("join_token.create", PA, dangerous=True),
    write("node.join", NEWCOMER),
    write("node.revoke", PA, SA, dangerous=True),
    # factors
    write("factor.change", *PEOPLE, own=True, dangerous=True),
    write("factor.enrol", *PEOPLE, own=True),
    write("factor.prove", NEWCOMER),
    write("factor.prove_again", *PEOPLE, own=True),
    read("factor.read", *PEOPLE, own=True),
    write("factor.reset", PA, SA, dangerous=True),
    read("factor.review", PA, SA, AU),
    # reports
    read("access_report.read", AU),
    write("access_report.export", PA, SA, dangerous=True, four_eyes=True),
    # identity
    write("break_glass.open", NEWCOMER),
    write("break_glass.seal", SYSTEM),
    write("break_glass.share", PA, SA, own=True, dangerous=True),
    write("api_key.create", PA, OP, TA),
    read("api_key.read", PA, SA, OP, AU, TA),
    write("api_key.revoke", PA, SA, OP, TA),
    write("api_key.rotate", PA, OP, TA),
    write("enrolment_code.create", SYSTEM),
    write("principal.enrol", NEWCOMER),
    write("role.grant", PA, dangerous=True),
    write("role.revoke", PA, dangerous=True),
    write("security_role.grant", SA, dangerous=True),
    write("security_role.revoke", SA, dangerous=True),
    write("session.end", *PEOPLE, own=True),
    read("session.read", *PEOPLE, own=True),
    read("session.read_all", PA, SA, AU),
    write("session.refresh", NEWCOMER),
    write("session.revoke", PA, SA),
    write("session.start", NEWCOMER),
    write("session.step_up", *PEOPLE, own=True),
    write("user.create", PA, dangerous=True),
    write("user.disable", PA, dangerous=True),
    write("user.enrol", PA, dangerous=True),
    write("security_user.enrol", SA, dangerous=True),
    write("security_user.disable", SA, dangerous=True),
    write("session.sweep", SYSTEM),
    read("user.read", PA, SA, AU),
    # oauth
    write("assertion.spend", NEWCOMER),
    write("authorization.grant", *PEOPLE, own=True),
    write("authorization.redeem", NEWCOMER),
    write("client.create", PA, dangerous=True),
    write("client.disable", PA, SA),
    read("client.read", PA, SA, AU),
    write("client.rotate", PA, dangerous=True),
    write("device.approve", *PEOPLE, own=True, dangerous=True),
    write("device.begin", NEWCOMER),
    write("device.deny", *PEOPLE, own=True),
    read("device.read", *PEOPLE, own=True),
    write("device.redeem", NEWCOMER),
    write("service.create", PA, dangerous=True),
    write("service.sign_in", NEWCOMER),
    write("session.end_by_protocol", NEWCOMER),
    write("signing_key.keep", SYSTEM),
    write("signing_key.rotate", SA, dangerous=True),
    write("token.introspect", NEWCOMER),
    write("token.refresh", NEWCOMER),
    write("token.revoke", NEWCOMER),
    # fleet
    write("gpu.cordon", OP),
    write("gpu.uncordon", OP),
    write("node.declare", PA),
    read("node.read", PA, SA, OP, DS, AU),
    write("node.report", NODE, own=True),
    # metering
    read("usage.read", PA, SA, OP, AU, TA, TU),
    write("usage.record", SYSTEM),
    write("usage.sweep", SYSTEM),
    write("spool.ship", GATEWAY),
    # witness
    write("checkpoint.cosign", NODE, own=True),
    read("checkpoint.read", NODE),
    write("checkpoint.refuse", NODE, own=True),
    # health
    write("incident.settle", SYSTEM),
    read("incident.read", PA, SA, OP, AU),
    write("proof.report", NODE, own=True),
    # shares
    read("pool.read", PA, SA, OP, DS, AU),
    write("pool.set", PA, OP),
    write("quota.set", PA),
    write("reservation.create", PA, OP),
    write("reservation.delete", PA, OP),
    read("reservation.read", PA, SA, OP, DS, AU),
    write("share.archive", PA),
    write("share.create", PA),
    write("share.keep_content", SA, DS),
    read("share.read", PA, SA, OP, DS, AU, TA, TU),
    # budgets
    write("allotment.ask", GATEWAY),
    write("budget.change", PA, OP),
    write("budget.create", PA, OP),
    write("budget.end", PA, OP),
    read("budget.read", PA, SA, OP, AU, TA, TU),
    write("budget.sweep", SYSTEM),
    # allocation
    read("allocation.explain", PA, SA, OP, AU, TA, TU),
    write("lease.end", SYSTEM),
    write("lease.grant", SYSTEM),
    read("lease.read", PA, SA, OP, AU),
    write("lease.renew", SYSTEM),
    # jobs
    read("job.read", PA, SA, OP, AU, TA, TU),
    read("job.read_log", OP, TA, TU),
    write("job.register", RUN, own=True),
    write("job.renew", RUN, own=True),
    write("job.run", OP, TA, TU),
    write("job.ship_output", RUN, own=True),
    write("job.stop", OP, TA, TU),
    write("job.sweep", SYSTEM),
    # scheduler
    write("scheduler.apply", PA, OP),
    read("scheduler.read", PA, SA, OP, AU),
    write("scheduler.take_over", PA, dangerous=True),
    # serving
    write("endpoint.create", OP),
    write("endpoint.delete", OP),
    read("endpoint.read", PA, SA, OP, DS, AU),
    write("endpoint.revise", OP),
    write("inference.run", OP, TU, moves=True),
    read("model.read", PA, SA, OP, DS, AU, TA, TU, shared=True),
    write("model.register", PA),
    write("replica.register", RUN, own=True),
    write("replica.renew", RUN, own=True),
    write("snapshot.publish", SYSTEM),
    read("snapshot.read", GATEWAY),
)
