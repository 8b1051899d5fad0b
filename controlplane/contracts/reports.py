"""The access report: who could, who did, and the evidence for each line."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from controlplane.contracts.strict import Answer, Strict

Format = Literal["json", "csv", "html", "pdf"]
PrincipalName = Annotated[str, Field(pattern=r"^[\w.@ -]{1,120}$")]
ObjectName = Annotated[str, Field(pattern=r"^[a-z_]{1,40}/[\w.:@-]{1,160}$", description="kind/id: endpoint/chat")]


class AskReport(Strict):
    """Of one principal (name or id), of one object, or of all; `began_at` is within the period, `ended_at` not."""

    principal: PrincipalName | None = None
    object: ObjectName | None = None
    began_at: AwareDatetime
    ended_at: AwareDatetime


class ExportReport(AskReport):
    """`approval` is one that a second person gave for exactly this selection and format."""

    format: Format
    approval: Annotated[str, Field(pattern=r"^[\w-]{1,80}$")]


class Line(Answer):
    """One event of the log. `leaf_index` and `proof` are what `redoubt-verify` checks; None: not sealed yet.

    `entry` is the log's own bytes; "" when they were purged, of which the hash stays.
    """

    event_id: str
    at: AwareDatetime
    actor: str
    role: str
    event: str
    resource: str
    session: str = ""
    policy: str = ""
    label: str = ""
    leaf_index: int | None = None
    entry: str = ""
    proof: str = ""


class RoleSpan(Answer):
    """A role over a time, and who said so. `revoked_at` None: it is held still."""

    role: str
    granted_by: str
    granted_at: AwareDatetime
    revoked_by: str | None = None
    revoked_at: AwareDatetime | None = None


class Authenticator(Answer):
    kind: str
    name: str = ""
    since: AwareDatetime
    last_used_at: AwareDatetime | None = None


class SessionSpan(Answer):
    id: str
    client: str
    methods: tuple[str, ...]
    source: str
    began_at: AwareDatetime
    seen_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    why: str = ""


class KeyUse(Answer):
    """An inference key that the principal made. `live` at the end of the period."""

    id: str
    name: str
    project: str
    classification: int
    zones: tuple[str, ...]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    live: bool


class Touched(Answer):
    """Data that was touched, by its label; an unlabelled thing counts as the most restrictive."""

    label: str
    event: str
    times: int
    first_at: AwareDatetime
    last_at: AwareDatetime


class Conflict(Answer):
    """Two duties of one person that exclude each other; `until` None: still."""

    duties: tuple[str, str]
    since: AwareDatetime
    until: AwareDatetime | None
    why: str


class PrincipalReport(Answer):
    """`dormant_days` None: in use. The lists of events are in the order of time."""

    id: str
    name: str
    kind: str
    project: str
    created_at: AwareDatetime
    disabled_at: AwareDatetime | None
    last_seen_at: AwareDatetime | None
    dormant_days: int | None
    roles: tuple[RoleSpan, ...]
    authenticators: tuple[Authenticator, ...]
    sessions: tuple[SessionSpan, ...]
    keys: tuple[KeyUse, ...]
    privileged: tuple[Line, ...]
    denials: tuple[Line, ...]
    break_glass: tuple[Line, ...]
    touched: tuple[Touched, ...]
    conflicts: tuple[Conflict, ...]


class Could(Answer):
    """What the policies in force let somebody do with an object now."""

    principal: str
    name: str
    roles: tuple[str, ...]
    verbs: tuple[str, ...]
    needs_step_up: tuple[str, ...] = ()


class Did(Answer):
    actor: str
    event: str
    times: int
    first_at: AwareDatetime
    last_at: AwareDatetime


class ObjectReport(Answer):
    """`could` is by the policies in force when the report was made; `did` is what the log says of the period."""

    object: str
    could: tuple[Could, ...]
    did: tuple[Did, ...]
    events: tuple[Line, ...]


class Checkpoint(Answer):
    """The signed state of the log that every proof leads to."""

    size: int
    note: str
    signer: str


class AccessReport(Answer):
    """`not_covered` says in words what the report does not answer."""

    site: str
    made_at: AwareDatetime
    made_by: str
    began_at: AwareDatetime
    ended_at: AwareDatetime
    policy_digest: str
    checkpoint: Checkpoint | None
    principals: tuple[PrincipalReport, ...]
    objects: tuple[ObjectReport, ...]
    not_covered: tuple[str, ...]


class ReportFile(Answer):
    """A report in one form, and as data: `content` is base64, `sha256` of what it decodes to."""

    format: Format
    name: str
    content: str
    sha256: str
    report: AccessReport
