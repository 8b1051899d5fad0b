"""A default role that may too much (OpenShift AI): what each role may is a file, and a difference fails."""

from pathlib import Path

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.types import PEOPLE, Kind

GOLDEN = Path(__file__).parent / "grants.txt"


def grants() -> str:
    """Return one line for each verb: its roles, and what it asks of them."""
    lines = []
    for name, verb in sorted(VERBS.items()):
        asks = [word for word in ("dangerous", "own", "shared", "moves", "four_eyes") if getattr(verb, word)]
        roles = " ".join(sorted(role.value for role in verb.roles))
        lines.append(f"{name} {verb.kind}: {roles}" + (f" ({', '.join(asks)})" if asks else ""))
    return "\n".join(lines) + "\n"


def test_what_each_role_may_is_what_was_looked_at_last():
    """After a look at the difference: `python -m tests.attacks.test_grants` writes the file."""
    assert grants().splitlines() == GOLDEN.read_text().splitlines()


def test_an_auditor_may_write_nothing():
    assert [v.name for v in VERBS.values() if Role.AUDITOR in v.roles and v.kind is not Kind.READ and not v.own] == []


def test_nobody_who_is_new_or_a_machine_may_what_people_may():
    people = {v.name for v in VERBS.values() if v.roles & PEOPLE}
    others = {v.name for v in VERBS.values() if v.roles - PEOPLE - {Role.SYSTEM}}
    assert people & others <= SHARED


SHARED = {"session.start", "session.refresh"}


if __name__ == "__main__":
    GOLDEN.write_text(grants())
