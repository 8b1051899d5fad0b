"""Cedar, with the schema always given: without it a `forbid` that errs is skipped, and the answer is yes.

https://docs.cedarpolicy.com/auth/authorization.html says so ("skip on error"); measured with cedarpy 4.12.
"""

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

import cedarpy

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.types import BrokenPolicies, Kind, Question, Verb, Verbs
from controlplane.kit.canonical import canonical_json, sha256_hex

LONGEST_POLICIES = 256 * 1024  # characters
DEEPEST = 50  # cedarpy 4.12.2 dies between 100 and 1,000
MOST_IFS = 200  # and of chained ifs between 1,000 and 10,000
STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*', re.DOTALL)
BRACKET = re.compile(r"[()\[\]{}]")
IF = re.compile(r"\bif\b")
ENTITIES = """\
entity Role;
entity Principal in [Role] = { name: String, project: String };
entity Resource = {
  name: String, kind: String, project: String, zone: String, classification: Long, jurisdictions: Set<String>,
};
type Place = { zone: String, jurisdiction: String, clearance: Long };
type Context = {
  second_factor: Bool, stepped_up: Bool, method: String, source?: ipaddr, hour: Long, weekday: Long, to?: Place,
};
"""


@dataclass(frozen=True)
class Engine:
    """Parsed policies and schema; `digest` names both, and so the whole of what they can answer."""

    policies: cedarpy.PolicySet
    schema: cedarpy.Schema
    verbs: Verbs
    digest: str
    count: int
    text: str


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    policies: tuple[str, ...]
    errors: tuple[str, ...]


def load(policies: str, verbs: Verbs) -> Engine:
    """Parse and validate; raises BrokenPolicies with every finding. Each policy must have an @id of its own."""
    too_much = list(_too_much(policies))
    if too_much:
        raise _broken(too_much)
    schema_text = to_schema(verbs)
    try:
        parsed, schema = cedarpy.PolicySet.from_str(policies), cedarpy.Schema.from_str(schema_text)
        ids = list(_ids(policies))
        found = cedarpy.validate_policies(policies, schema)
    except ValueError as error:
        raise _broken([str(error)]) from None
    problems = [_in_words(error, dict(ids)) for error in found.errors]
    problems += [f"{_ordinal(name)}: it has no @id" for name, given in ids if not given]
    named = [given for _, given in ids if given]
    problems += [f"two policies have the @id {name}" for name in sorted({n for n in named if named.count(n) > 1})]
    if problems or not found.validation_passed:
        raise _broken(problems or ["the policies do not fit the schema"])
    digest = sha256_hex(canonical_json({"policies": policies, "schema": schema_text}))
    return Engine(parsed, schema, verbs, digest, len(ids), policies)


def _in_words(error: cedarpy.ValidationError, ids: dict[str, str]) -> str:
    """Return a finding of Cedar's with the policy called by its @id instead of its place."""
    name = error.policy_id
    said = error.error.removeprefix(f"for policy `{name}`, ")
    return f"{ids.get(name) or _ordinal(name)}: {said}"


def _ordinal(name: str) -> str:
    number = name.removeprefix("policy")
    return f"policy number {int(number) + 1}" if number.isdecimal() else name


def _too_much(policies: str) -> Iterator[str]:
    """Yield what Cedar must not be given: its parser has no limit and takes the whole process with it (SIGSEGV)."""
    if len(policies) > LONGEST_POLICIES:
        yield f"the policies are {len(policies)} characters long, {LONGEST_POLICIES} at most"
    code = STRING_OR_COMMENT.sub(" ", policies)
    depth = deepest = 0
    for sign in BRACKET.findall(code):
        depth = depth + 1 if sign in "([{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        yield f"brackets are nested {deepest} deep, {DEEPEST} at most"
    if (ifs := len(IF.findall(code))) > MOST_IFS:
        yield f"there are {ifs} ifs, {MOST_IFS} at most"


def ask(engine: Engine, question: Question) -> Verdict:
    """Ask Cedar. Any error, any diagnostic and anything but a clear Allow is a no."""
    try:
        given = cedarpy.is_authorized(
            _request(question), engine.policies, json.dumps(_entities(question)), engine.schema
        )
    except ValueError as error:
        return Verdict(allowed=False, policies=(), errors=(str(error),))
    names = given.diagnostics.id_annotations_by_reason
    policies = tuple(sorted(names.get(reason, reason) for reason in given.diagnostics.reasons))
    errors = tuple(given.diagnostics.errors)
    return Verdict(given.decision is cedarpy.Decision.Allow and not errors, policies, errors)


def to_schema(verbs: Verbs) -> str:
    """Return the Cedar schema of a table of verbs, with a group for each role and each property."""
    groups = sorted({*(f"role/{role}" for role in Role), *(f"kind/{word}" for word in PROPERTIES)})
    lines = [ENTITIES, f"action {', '.join(json.dumps(group) for group in groups)};"]
    for name in sorted(verbs):
        inside = ", ".join(json.dumps(group) for group in _groups(verbs[name]))
        lines.append(
            f"action {json.dumps(name)} in [{inside}] "
            "appliesTo { principal: [Principal], resource: [Resource], context: Context };"
        )
    return "\n".join(lines) + "\n"


PROPERTIES = ("read", "write", "dangerous", "own", "shared", "moves")


def _groups(verb: Verb) -> Iterator[str]:
    yield from (f"role/{role}" for role in sorted(verb.roles))
    yield f"kind/{Kind(verb.kind)}"
    yield from (f"kind/{word}" for word in PROPERTIES[2:] if getattr(verb, word))


def _ids(policies: str) -> Iterator[tuple[str, str]]:
    """Yield each policy's own name and its @id."""
    found = json.loads(cedarpy.policies_to_json_str(policies))
    if found["templates"]:
        raise _broken(["templates are not linked here; write a policy without ?principal and ?resource"])
    for name, policy in found["staticPolicies"].items():
        yield name, policy.get("annotations", {}).get("id") or ""


def _request(question: Question) -> dict[str, object]:
    context: dict[str, object] = {
        "second_factor": question.second_factor,
        "stepped_up": question.stepped_up,
        "method": question.method,
        "hour": question.hour,
        "weekday": question.weekday,
    }
    if _is_address(question.source):
        context["source"] = {"__extn": {"fn": "ip", "arg": question.source}}
    if question.to is not None:
        to = question.to
        context["to"] = {"zone": to.zone, "jurisdiction": to.jurisdiction, "clearance": to.clearance}
    return {
        "principal": {"type": "Principal", "id": question.actor},
        "action": {"type": "Action", "id": question.verb},
        "resource": {"type": "Resource", "id": question.resource.id},
        "context": json.dumps(context),
    }


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone of IPv6 is nothing that Cedar reads


def _entities(question: Question) -> list[dict[str, object]]:
    resource = question.resource
    return [
        {
            "uid": {"type": "Principal", "id": question.actor},
            "attrs": {"name": question.actor, "project": question.project},
            "parents": [{"type": "Role", "id": str(role)} for role in sorted(question.roles)],
        },
        {
            "uid": {"type": "Resource", "id": resource.id},
            "attrs": {
                "name": resource.id,
                "kind": resource.kind,
                "project": resource.project,
                "zone": resource.zone,
                "classification": resource.classification,
                "jurisdictions": sorted(resource.jurisdictions),
            },
            "parents": [],
        },
    ]


def _broken(problems: list[str]) -> BrokenPolicies:
    return BrokenPolicies(
        problems[0], remedy="mend the policies, then: redoubt policy check FILE", reasons=tuple(problems)
    )
