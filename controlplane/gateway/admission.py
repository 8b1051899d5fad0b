"""Whether the data of a request may go where its endpoint is: decided as the control plane decides, by the same rules.

The policies are those of the snapshot. An answer is kept until something it depends on is another, because asking
Cedar takes some 200 us and the same key asks the same again.
"""

from datetime import datetime
from functools import lru_cache

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules import cedar, constitution
from controlplane.domains.policy.rules.decision import decide
from controlplane.domains.policy.rules.verbs import VERBS
from controlplane.domains.policy.types import Answer, Outcome, Place, Question, Resource
from controlplane.gateway.directory import Directory, Endpoint, Grant, Terms
from controlplane.gateway.errors import NotHere

VERB = "inference.run"
MOST_KEPT = 65_536
_CODES = {"jurisdiction": "jurisdiction_not_allowed", "classification": "classification_not_allowed_there"}
_ALLOWED = Answer(Outcome.ALLOW)


def admit(directory: Directory, grant: Grant, terms: Terms, endpoint: Endpoint, *, source: str, now: datetime) -> None:
    """Let a request of a key through to an endpoint. Raises NotHere, which names the rule."""
    judge_by(directory.policies).admit(grant, terms, endpoint, source, now)


class Judge:
    """Answers by one text of policies; None leaves the constitution alone. Raises BrokenPolicies."""

    def __init__(self, policies: str | None) -> None:
        self._engine = None if policies is None else cedar.load(policies, VERBS)
        self._knows_hours = "hour" in (policies or "") or "weekday" in (policies or "")
        self._knows_sources = "source" in (policies or "")
        self._kept: dict[tuple[object, ...], Answer] = {}

    def admit(self, grant: Grant, terms: Terms, endpoint: Endpoint, source: str, now: datetime) -> None:
        """Let a request through. Raises NotHere, which names the rule."""
        asked = (
            grant.key_id, grant.jurisdictions, endpoint.name, endpoint.zone, endpoint.jurisdiction, endpoint.clearance,
            terms.classification,
            source if self._knows_sources else "",
            (now.isoweekday(), now.hour) if self._knows_hours else None,
        )  # fmt: skip
        answer = self._kept.get(asked)
        if answer is None:
            answer = self._keep(asked, self._answer(to_question(grant, terms, endpoint, source, now)))
        if answer.outcome is not Outcome.ALLOW:
            raise _refusal(answer, terms, endpoint)

    def _keep(self, asked: tuple[object, ...], answer: Answer) -> Answer:
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[asked] = answer
        return answer

    def _answer(self, question: Question) -> Answer:
        if self._engine is not None:
            return decide(self._engine, question)
        clauses = constitution.forbidden(question, VERBS[VERB])
        return Answer(Outcome.DENY, clauses=clauses) if clauses else _ALLOWED


@lru_cache(maxsize=2)  # a new snapshot has mostly the old policies
def judge_by(policies: str | None) -> Judge:
    """Return who answers by these policies. Raises BrokenPolicies."""
    return Judge(policies)


def to_question(grant: Grant, terms: Terms, endpoint: Endpoint, source: str, now: datetime) -> Question:
    """Ask whether a key may run its data at an endpoint.

    A key without jurisdictions is bound by its zones alone, and those were looked at when the endpoint was found. Who
    made a key for secret data had to show a second factor then; the key stands for that.
    """
    data = Resource(
        "inference",
        endpoint.name,
        project=grant.project,
        zone="" if grant.jurisdictions else endpoint.zone,
        classification=terms.classification,
        jurisdictions=grant.jurisdictions,
    )
    return Question(
        actor=grant.key_id,
        roles=frozenset({Role.TENANT_USER if grant.project else Role.OPERATOR}),
        project=grant.project,
        verb=VERB,
        resource=data,
        second_factor=True,
        method="key",
        source=source,
        hour=now.hour,
        weekday=now.isoweekday(),
        to=Place(endpoint.zone, endpoint.jurisdiction, endpoint.clearance),
    )


def _refusal(answer: Answer, terms: Terms, endpoint: Endpoint) -> NotHere:
    clause = next((clause for clause in answer.clauses if clause in _CODES), "")
    rules = ", ".join((*answer.clauses, *(policy for policy in answer.policies if policy not in answer.clauses)))
    detail = f"data of this request may not go to zone {endpoint.zone}"
    told = f"the rule {rules}" if rules else "no policy that permits it"
    where = f"{endpoint.jurisdiction or 'no declared jurisdiction'}, clearance {endpoint.clearance}"
    return NotHere(
        f"{detail} ({where}; the request counts as level {terms.classification}): {told}",
        remedy="use an endpoint of another zone, or send X-Redoubt-Classification for data of a lower class",
        code=_CODES.get(clause, "policy_denied"),
        param="model",
    )
