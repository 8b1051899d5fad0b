"""What a policy set must be before anyone may approve it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any  # an example is kept as JSON

from controlplane.contracts import policy as shapes
from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules import cedar
from controlplane.domains.policy.rules.decision import decide
from controlplane.domains.policy.types import BrokenPolicies, Outcome, Place, Question, Resource, Verbs
from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import BadInput

WAY_BACK = (  # a set that nobody can replace is refused
    ("policy.read", Role.PLATFORM_ADMIN),
    ("policy.propose", Role.PLATFORM_ADMIN),
    ("policy.publish", Role.PLATFORM_ADMIN),
    ("policy.read", Role.SECURITY_ADMIN),
    ("approval.read", Role.SECURITY_ADMIN),
    ("approval.decide", Role.SECURITY_ADMIN),
)


def check(policies: str, examples: Sequence[shapes.Example], verbs: Verbs) -> cedar.Engine:
    """Return the loaded set; raises BrokenPolicies with all that is wrong with it."""
    engine = cedar.load(policies, verbs)
    problems = [*_one_sided(examples), *_no_way_back(engine), *_wrong_examples(engine, examples)]
    if problems:
        raise BrokenPolicies(problems[0], remedy="mend it, then: redoubt policy check FILE", reasons=tuple(problems))
    return engine


def digest_of(policies: str, examples: Sequence[Mapping[str, Any]]) -> str:
    """Return what an approval is bound to; it is computed again when a stored set is loaded."""
    return sha256_hex(canonical_json({"policies": policies, "examples": list(examples)}))


def shipped_examples() -> tuple[shapes.Example, ...]:
    """Return the examples of the shipped set: what each role is for, and what it must not."""
    may = [
        ("platform-admin", "node.declare"), ("security-admin", "approval.decide"), ("operator", "endpoint.create"),
        ("auditor", "audit.read"), ("data-steward", "model.read"),
    ]  # fmt: skip
    must_not = [
        ("platform-admin", "approval.decide"), ("security-admin", "endpoint.create"), ("operator", "policy.propose"),
        ("auditor", "endpoint.delete"), ("data-steward", "node.declare"),
    ]  # fmt: skip
    allowed = [shapes.Example(expect="allow", roles=(role,), verb=verb) for role, verb in may]
    return (*allowed, *(shapes.Example(expect="deny", roles=(role,), verb=verb) for role, verb in must_not))


def to_question(given: shapes.Circumstances, who: str, roles: Iterable[str], project: str) -> Question:
    """Return the question that an example or a check asks; raises BadInput for a role that there is not."""
    return Question(
        actor=who,
        roles=to_roles(roles),
        project=project,
        verb=given.verb,
        resource=to_resource(given.resource),
        second_factor=given.second_factor,
        stepped_up=given.stepped_up,
        method=given.method,
        source=given.source,
        hour=given.hour,
        weekday=given.weekday,
        to=to_place(given.to),
    )


def to_resource(thing: shapes.Thing) -> Resource:
    return Resource(
        thing.kind, thing.id, thing.project, thing.zone, thing.classification, frozenset(thing.jurisdictions)
    )


def to_place(to: shapes.Where | None) -> Place | None:
    return None if to is None else Place(to.zone, to.jurisdiction, to.clearance)


def to_roles(names: Iterable[str]) -> frozenset[Role]:
    known = {str(role) for role in Role}
    unknown = sorted(set(names) - known)
    if unknown:
        raise BadInput(f"no role is called {unknown[0]}", remedy=f"one of: {', '.join(sorted(known))}")
    return frozenset(Role(name) for name in names)


def _one_sided(examples: Sequence[shapes.Example]) -> Iterable[str]:
    expected = {example.expect for example in examples}
    if "deny" not in expected:
        yield "the examples say nothing that must be denied"
    if not expected - {"deny"}:
        yield "the examples say nothing that must be allowed"


def _no_way_back(engine: cedar.Engine) -> Iterable[str]:
    for verb, role in WAY_BACK:
        asked = Question(
            "somebody", frozenset({role}), "", verb, Resource(verb.partition(".")[0], "site"),
            second_factor=True, stepped_up=True,
        )  # fmt: skip
        if decide(engine, asked).outcome is not Outcome.ALLOW:
            yield f"{role} could no longer {verb}, so nobody could replace this set"


def _wrong_examples(engine: cedar.Engine, examples: Sequence[shapes.Example]) -> Iterable[str]:
    for number, example in enumerate(examples, start=1):
        question = to_question(example, example.who, example.roles, example.project)
        answer = decide(engine, question)
        if answer.outcome != example.expect:
            who = "+".join(example.roles) or "nobody"
            because = ", ".join((*answer.policies, *answer.clauses, *answer.errors)) or "no policy allows it"
            yield f"example {number}: {who} {example.verb} must be {example.expect}, is {answer.outcome} ({because})"
