"""Policy sets, approvals and access checks, shared by the server, the typed client and the CLI."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Answer, Strict

RoleName = Annotated[str, Field(pattern=r"^[a-z][a-z-]{1,39}$")]
VerbName = Annotated[str, Field(pattern=r"^[a-z_]{1,40}\.[a-z_]{1,40}$", description="noun.verb")]
Word = Annotated[str, Field(pattern=r"^[\w.:@/ -]{0,200}$")]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="ISO 3166")]
ApprovalState = Literal["waiting", "approved", "refused", "spent", "expired"]
Outcome = Literal["allow", "deny", "step_up"]


class Thing(Strict):
    """What is acted on. `classification` is 0 (public) to 3 (secret)."""

    kind: Word = "site"
    id: Word = "site"
    project: Word = ""
    zone: Word = ""
    classification: int = Field(default=0, ge=0, le=3)
    jurisdictions: tuple[Country, ...] = Field(default=(), max_length=50)


class Where(Strict):
    """Where data would go; `clearance` is the highest classification that may be there."""

    zone: Word
    jurisdiction: Country
    clearance: int = Field(default=0, ge=0, le=3)


class Circumstances(Strict):
    """Everything about a question but who and whether: an example of a set, and what a check may assume."""

    verb: VerbName
    resource: Thing = Thing()
    to: Where | None = None
    second_factor: bool = True
    stepped_up: bool = True
    method: Word = ""
    source: Word = ""
    hour: int = Field(default=12, ge=0, le=23, description="UTC")
    weekday: int = Field(default=3, ge=1, le=7, description="1 is Monday")


class Example(Circumstances):
    """A question whose answer is known; a set whose policies answer another is refused."""

    expect: Outcome
    who: Word = "somebody"
    roles: tuple[RoleName, ...] = Field(default=(), max_length=13)
    project: Word = ""


class DraftSet(Strict):
    """A whole set: it replaces the one in force."""

    note: str = Field(min_length=1, max_length=400, description="what changes, and why")
    policies: str = Field(min_length=1, max_length=256 * 1024)
    examples: tuple[Example, ...] = Field(min_length=1, max_length=500)


class CheckedSet(Answer):
    digest: str
    policies: int
    examples: int


class PolicySetRow(Answer):
    """`version` 0 is the set that is shipped."""

    version: int
    note: str
    sha256: str
    proposed_by: str
    proposed_at: AwareDatetime | None
    in_force: bool


class PolicySetView(PolicySetRow):
    """`broken` says why this version cannot be loaded, if so."""

    digest: str
    policies: str
    examples: tuple[Example, ...]
    broken: tuple[str, ...] = ()


class FlipGroup(Answer):
    """Decisions of one verb and one set of roles that would be answered differently; `example` is the newest."""

    verb: str
    roles: tuple[str, ...]
    before: Outcome
    after: Outcome
    times: int
    who: str
    resource: str
    why: tuple[str, ...]


class Replay(Answer):
    """`flipped` of `replayed` recorded decisions; `distinct` are different questions."""

    version: int
    against: int
    replayed: int
    distinct: int
    unreadable: int
    flipped: int
    groups: tuple[FlipGroup, ...]
    since: AwareDatetime | None


class ProposedSet(Answer):
    set: PolicySetRow
    approval_id: str
    replay: Replay


class ProposePublication(Strict):
    reason: str = Field(min_length=1, max_length=400)


class Publish(Strict):
    approval_id: str = Field(min_length=1, max_length=40)


class Publication(Answer):
    number: int
    version: int
    approval_id: str
    proposed_by: str
    approved_by: str
    published_by: str
    at: AwareDatetime
    replayed: int
    flipped: int


class ProposeApproval(Strict):
    """`subject` is everything that the action is about to be given: an approval counts for exactly this."""

    action: VerbName
    subject: dict[str, str | int | bool | None] = Field(max_length=50)
    reason: str = Field(min_length=1, max_length=400)
    hours: int = Field(default=24, ge=1, le=168)


class ApprovalView(Answer):
    id: str
    action: str
    subject: dict[str, object]
    reason: str
    state: ApprovalState
    proposed_by: str
    proposed_at: AwareDatetime
    expires_at: AwareDatetime
    decided_by: str | None
    spent_by: str | None


class AccessCheck(Circumstances):
    """`who` is `me`, a person's name, or with `roles` given anybody who would hold them.

    For oneself factors, address and time are as they are now; for others as they are given.
    """

    who: Word = "me"
    roles: tuple[RoleName, ...] | None = Field(default=None, max_length=13)
    project: Word | None = None


class Change(Answer):
    """What, if it were so, would make the answer another one."""

    change: str
    outcome: Outcome


class AccessAnswer(Answer):
    who: str
    roles: tuple[str, ...]
    project: str
    verb: str
    resource: str
    outcome: Outcome
    policies: tuple[str, ...]
    clauses: tuple[str, ...]
    reasons: tuple[str, ...]
    errors: tuple[str, ...]
    changes: tuple[Change, ...]
    version: int
    digest: str


class VerbRow(Answer):
    verb: str
    kind: str
    roles: tuple[str, ...]
    dangerous: bool
    own: bool
    shared: bool
    moves: bool
    four_eyes: bool
