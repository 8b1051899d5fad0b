"""The policies that a site starts with: a role has its verbs, and then the constitution once more in Cedar's words.

What the constitution forbids is refused by both here, so a dispute between the two means that somebody's own policy is
wrong.
"""

from collections.abc import Iterable

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.types import MACHINES, PEOPLE, STAFF, TENANTS


def shipped_policies() -> str:
    """Return the text of the shipped set: one policy a role, then the limits."""
    roles = sorted(Role)
    return "\n".join([*(_of_role(role) for role in roles), *(_of_machine(role) for role in sorted(MACHINES)), LIMITS])


def _of_role(role: Role) -> str:
    return f'@id("{role}")\npermit (principal in Role::"{role}", action in Action::"role/{role}", resource);\n'


def _of_machine(role: Role) -> str:
    own = f'unless {{ action in Action::"role/{role}" && principal.project == "" }}'
    return f'@id("{role}-has-its-own-verbs")\nforbid (principal in Role::"{role}", action, resource)\n{own};\n'


def _any_of(roles: Iterable[Role]) -> str:
    named = ", ".join(f'Role::"{role}"' for role in sorted(roles))
    return f"[{named}]"


LIMITS = f"""\
@id("machines-are-no-people")
forbid (principal, action, resource)
when {{ principal in {_any_of(MACHINES)} && principal in {_any_of(PEOPLE)} }};

@id("auditors-change-nothing")
forbid (principal in Role::"auditor", action in Action::"kind/write", resource)
unless {{ action in Action::"kind/own" }};

@id("own-things")
forbid (principal, action in Action::"kind/own", resource)
unless {{ resource.name == principal.name }};

@id("tenants-have-a-project")
forbid (principal, action, resource)
when {{ principal in {_any_of(TENANTS)} && principal.project == "" }};

@id("staff-has-no-project")
forbid (principal, action, resource)
when {{ principal in {_any_of(STAFF)} && principal.project != "" }};

@id("tenants-keep-to-their-project")
forbid (principal, action, resource)
when {{ principal.project != "" }}
unless {{
  resource.project == principal.project || action in Action::"kind/own" ||
  (action in Action::"kind/shared" && resource.project == "")
}};

@id("approvers-are-security-administrators")
forbid (principal, action == Action::"approval.decide", resource)
unless {{ principal in Role::"security-admin" }};

@id("data-goes-where-its-label-lets-it")
forbid (principal, action, resource)
when {{ action in Action::"kind/moves" }}
unless {{
  context has to &&
  (resource.jurisdictions.contains(context.to.jurisdiction) ||
   (resource.jurisdictions.isEmpty() && resource.zone != "" && context.to.zone == resource.zone))
}};

@id("data-goes-nowhere-below-its-classification")
forbid (principal, action, resource)
when {{ action in Action::"kind/moves" }}
unless {{ context has to && context.to.clearance >= resource.classification }};

@id("secrets-want-a-second-factor")
forbid (principal, action, resource)
when {{ resource.classification >= 3 && !context.second_factor }}
unless {{ principal in {_any_of(MACHINES)} }};

@id("classifications-are-0-to-3")
forbid (principal, action, resource)
when {{ resource.classification < 0 || resource.classification > 3 }};
"""
