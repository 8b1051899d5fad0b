"""What no policy can allow: plain comparisons of what is asked, without an engine. Each clause has one name."""

from collections.abc import Callable

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.types import MACHINES, SECRET, STAFF, TENANTS, Kind, Place, Question, Resource, Verb

APPROVAL = "approval.decide"
Clause = Callable[[Question, Verb], bool]


def forbidden(question: Question, verb: Verb | None) -> tuple[str, ...]:
    """Return the names of the clauses that forbid it; an unknown verb is forbidden by the first."""
    if verb is None:
        return ("verb",)
    return tuple(name for name, holds in CLAUSES.items() if not holds(question, verb))


def _role(question: Question, verb: Verb) -> bool:
    """Machines have their own verbs alone and those are theirs alone; nobody is both, and without a role is nothing."""
    if question.roles & MACHINES:
        return question.roles <= verb.roles & MACHINES and not question.project
    return bool(question.roles) and not verb.roles <= MACHINES


def _auditor(question: Question, verb: Verb) -> bool:
    """Who audits changes nothing but what is their own."""
    return Role.AUDITOR not in question.roles or verb.kind is Kind.READ or verb.own


def _own(question: Question, verb: Verb) -> bool:
    """What is about oneself is not about another."""
    return not verb.own or question.resource.id == question.actor


def _tenant(question: Question, verb: Verb) -> bool:
    """A tenant reaches its own project, itself, and what the site shares; it holds no office of the site."""
    if not question.project:
        return not question.roles & TENANTS
    if question.roles & STAFF:
        return False
    return question.resource.project == question.project or verb.own or (verb.shared and not question.resource.project)


def _approver(question: Question, verb: Verb) -> bool:
    """The second of two people is a security administrator."""
    return verb.name != APPROVAL or Role.SECURITY_ADMIN in question.roles


def _jurisdiction(question: Question, verb: Verb) -> bool:
    """Data goes only where its label lets it be; with no label, to no other zone than its own."""
    return not verb.moves or (question.to is not None and _may_be_in(question.resource, question.to))


def _may_be_in(resource: Resource, to: Place) -> bool:
    if not resource.jurisdictions:
        return bool(resource.zone) and to.zone == resource.zone
    return to.jurisdiction in resource.jurisdictions


def _classification(question: Question, verb: Verb) -> bool:
    """Secret things want a person with a second factor, and no data goes below its classification."""
    level = question.resource.classification
    if not 0 <= level <= SECRET:
        return False
    if level == SECRET and not question.roles & MACHINES and not question.second_factor:
        return False
    return not verb.moves or (question.to is not None and question.to.clearance >= level)


CLAUSES: dict[str, Clause] = {
    "role": _role,
    "auditor": _auditor,
    "own": _own,
    "tenant": _tenant,
    "approver": _approver,
    "jurisdiction": _jurisdiction,
    "classification": _classification,
}
MEANING = {
    "verb": "the verb is not in the table",
    "role": "machines have their own verbs and nobody else has those; nobody acts without a role",
    "auditor": "who audits changes nothing",
    "own": "it may only be asked about oneself",
    "tenant": "a tenant reaches its own project and what the site shares",
    "approver": "the second of two people is a security administrator",
    "jurisdiction": "the label does not let the data be there",
    "classification": "secret things want a second factor, and data goes to no place below its classification",
}
