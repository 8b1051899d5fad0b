"""What a policy question is about, how it is answered, and what it can fail with."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from controlplane.domains.audit.types import Role
from controlplane.kit.errors import BadInput, Denied

PEOPLE = frozenset({
    Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN, Role.OPERATOR, Role.DATA_STEWARD, Role.AUDITOR, Role.TENANT_ADMIN,
    Role.TENANT_USER, Role.BREAK_GLASS,
})  # fmt: skip
TENANTS = frozenset({Role.TENANT_ADMIN, Role.TENANT_USER})
STAFF = PEOPLE - TENANTS
MACHINES = frozenset(Role) - PEOPLE
SECRET = 3  # the highest classification


@dataclass(frozen=True)
class Resource:
    """One thing that may be acted on; what is unknown of it is what is most restrictive.

    `project` is the tenant that owns it ("" is the site itself), `classification` 0 (public) to 3 (secret),
    `jurisdictions` the ISO 3166 codes in which it may be (none: only in its own zone).
    """

    kind: str
    id: str
    project: str = ""
    zone: str = ""
    classification: int = 0
    jurisdictions: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True)
class Place:
    """Where a verb that moves data moves it to; `clearance` is the highest classification that may be there."""

    zone: str
    jurisdiction: str
    clearance: int


class Kind(StrEnum):
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Verb:
    """One line of the table of verbs.

    `dangerous` asks of people a second factor not older than five minutes. `own` is about the actor itself: the
    resource is the actor's id. `shared` lets a tenant read it of the site. `moves` needs a Place. `four_eyes` spends
    an approval by a second person.
    """

    name: str
    kind: Kind
    roles: frozenset[Role]
    dangerous: bool = False
    own: bool = False
    shared: bool = False
    moves: bool = False
    four_eyes: bool = False


Verbs = Mapping[str, Verb]


@dataclass(frozen=True)
class Question:
    """Everything that an answer depends on; equal questions have equal answers under one policy digest.

    `second_factor` says that the session ever showed one, `stepped_up` that it did in the last five minutes.
    `hour` (0 to 23) and `weekday` (1 is Monday) are UTC.
    """

    actor: str
    roles: frozenset[Role]
    project: str
    verb: str
    resource: Resource
    second_factor: bool = False
    stepped_up: bool = False
    method: str = ""
    source: str = ""
    hour: int = 0
    weekday: int = 1
    to: Place | None = None


class Outcome(StrEnum):
    ALLOW = "allow"
    DENY = "deny"
    STEP_UP = "step_up"


@dataclass(frozen=True)
class Answer:
    """`policies` are the ids that decided in Cedar, `clauses` what the constitution forbids, `errors` Cedar's own.

    `disputed` says that Cedar allowed what the constitution forbids: somebody has to look.
    """

    outcome: Outcome
    policies: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    disputed: bool = False


@dataclass(frozen=True)
class Decided:
    """An answer with its question, under the policies that `digest` names."""

    question: Question
    answer: Answer
    digest: str


class PolicyDenied(Denied):
    """A denial that knows what was decided, so that the edge can record what the rolled-back request could not."""

    def __init__(
        self, detail: str, *, remedy: str, decided: Decided, code: str = "", reasons: tuple[str, ...] = ()
    ) -> None:
        super().__init__(detail, remedy=remedy, code=code, reasons=reasons)
        self.decided = decided


class StepUpRequired(PolicyDenied):
    """Allowed, if the person shows a second factor now."""


class BrokenPolicies(BadInput):
    """Policies that do not parse, do not fit the schema, or do not do what their examples say."""
