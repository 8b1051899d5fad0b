"""The constitution against a second telling of it, over every role, verb, tenant, classification and jurisdiction.

The finite space is walked whole, so this is no sample; and every small change of the rules' own source is found by it.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any  # a mutated module has whatever its source defines

from controlplane.domains.audit.types import Role
from controlplane.domains.policy.rules import cedar, constitution, decision, shipped
from controlplane.domains.policy.rules.verbs import VERBS, write
from controlplane.domains.policy.types import (
    MACHINES,
    PEOPLE,
    STAFF,
    TENANTS,
    Outcome,
    Place,
    Question,
    Resource,
    Verb,
)

MOVER = write("data.move", Role.DATA_STEWARD, Role.TENANT_ADMIN, moves=True)  # no verb moves data yet
EVERYONE, MACHINERY = write("all.do", *PEOPLE), write("machine.do", *MACHINES)
TABLE = {**VERBS, **{verb.name: verb for verb in (MOVER, EVERYONE, MACHINERY)}}
HOLDERS = [
    frozenset[Role](), *(frozenset({role}) for role in Role), frozenset({Role.AUDITOR, Role.OPERATOR}),
    frozenset({Role.OPERATOR, Role.TENANT_ADMIN}), frozenset({Role.NODE, Role.OPERATOR}),
    frozenset({Role.NODE, Role.SYSTEM}), frozenset({Role.PLATFORM_ADMIN, Role.SECURITY_ADMIN}),
]  # fmt: skip
LABELS = [frozenset[str](), frozenset({"DE"}), frozenset({"DE", "FR"})]
PLACES = [None, *(Place(*p) for p in product(["north", "south", ""], ["DE", "US"], [0, 1, 3]))]


def law(question: Question, verb: Verb) -> set[str]:
    """Return the clauses that are broken: the same law, written as sets of what is allowed."""
    roles, thing, to = question.roles, question.resource, question.to
    tenant, machine, person = roles & TENANTS, roles & MACHINES, roles & PEOPLE
    kept = {
        "role": (not person and bool(machine) and all(r in verb.roles for r in roles) and question.project == "")
        or (bool(person) and not machine and any(r in PEOPLE for r in verb.roles)),
        "auditor": not (Role.AUDITOR in roles and verb.kind == "write" and not verb.own),
        "own": thing.id == question.actor if verb.own else True,
        "tenant": (question.project == "" and not tenant)
        or (question.project != "" and not roles & STAFF
        and (thing.project == question.project or verb.own or (thing.project == "" and verb.shared))),
        "approver": Role.SECURITY_ADMIN in roles if verb.name == "approval.decide" else True,
        "jurisdiction": not verb.moves or (to is not None
        and (to.jurisdiction in thing.jurisdictions if thing.jurisdictions else to.zone == thing.zone != "")),
        "classification": thing.classification in {0, 1, 2, 3}
        and (thing.classification < 3 or bool(machine) or question.second_factor)
        and (not verb.moves or (to is not None and thing.classification <= to.clearance)),
    }  # fmt: skip
    return {clause for clause, is_kept in kept.items() if not is_kept}


def space(verbs: list[Verb]) -> Iterator[tuple[Question, Verb]]:
    """Walk every question about these verbs; labels and places matter for what moves data alone."""
    for verb, roles, mine, owner, level, factor, name in product(
        verbs, HOLDERS, ["", "blue"], ["", "blue", "red"], [-1, 0, 1, 2, 3, 4], [False, True], ["ann", "thing"]
    ):
        where = product(["", "north"], LABELS, PLACES) if verb.moves else [("north", LABELS[1], None)]
        for zone, label, to in where:
            thing = Resource("thing", name, owner, zone, level, label)
            yield Question("ann", roles, mine, verb.name, thing, second_factor=factor, stepped_up=factor, to=to), verb


def kinds_of_verbs() -> list[Verb]:
    """Return one verb for each combination of what a rule can see of it."""
    seen = {(v.kind, v.roles, v.own, v.shared, v.moves, v.name == "approval.decide"): v for v in TABLE.values()}
    return list(seen.values())


def test_the_constitution_says_what_the_law_says_for_every_question_there_is():
    verbs = [verb for verb in TABLE.values() if not verb.moves]

    assert [(q, v.name) for q, v in space(verbs) if set(constitution.forbidden(q, v)) != law(q, v)] == []


def test_and_for_every_place_that_data_could_be_moved_to():
    assert [q for q, v in space([MOVER]) if set(constitution.forbidden(q, v)) != law(q, v)] == []


def test_no_policy_can_allow_what_the_law_forbids():
    """The widest policy there is: Cedar says yes to everything, and the constitution alone decides."""
    engine = cedar.load('@id("all") permit (principal, action, resource);', TABLE)
    sampled = [pair for number, pair in enumerate(space(kinds_of_verbs())) if number % 37 == 0]

    for question, verb in sampled:
        answer = decision.decide(engine, question)
        forbidden = bool(law(question, verb))
        assert (answer.outcome is Outcome.DENY) == forbidden, question
        assert answer.disputed == forbidden, question


def test_the_shipped_policies_never_dispute_the_constitution():
    engine = cedar.load(shipped.shipped_policies(), TABLE)
    sampled = [pair for number, pair in enumerate(space(kinds_of_verbs())) if number % 41 == 0]

    assert [q for q, _ in sampled if decision.decide(engine, q).disputed] == []


def test_a_verb_that_is_not_in_the_table_is_forbidden():
    assert constitution.forbidden(Question("ann", frozenset({Role.OPERATOR}), "", "no.verb", Resource("x", "x")), None)


def test_every_clause_has_its_meaning_in_words():
    assert constitution.MEANING.keys() == {"verb", *constitution.CLAUSES}


class Mutation(ast.NodeTransformer):
    """Makes the change with this number, and counts the changes that there are."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.met, self.made = wanted, -1, ""

    def _due(self, node: ast.AST) -> bool:
        self.met += 1
        if self.met == self.wanted:
            self.made = f"line {getattr(node, 'lineno', 0)}: {ast.unparse(node)}"
        return self.met == self.wanted

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        if self._due(node):
            return ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        for place in range(len(node.values)):
            if self._due(node):
                kept = [value for index, value in enumerate(node.values) if index != place]
                return kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if self._due(node) else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for place, sign in enumerate(node.ops):
            for other in SIGNS.get(type(sign), ()):
                if self._due(node):
                    signs = list(node.ops)
                    signs[place] = other()
                    return ast.Compare(node.left, signs, node.comparators)
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        for answer in (True, False):
            if ast.dump(ast.Constant(answer)) != ast.dump(node.value or ast.Constant(None)) and self._due(node):
                return ast.Return(ast.Constant(answer))
        return node


SIGNS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,), ast.LtE: (ast.Lt, ast.Gt), ast.GtE: (ast.Gt, ast.Lt), ast.Lt: (ast.LtE,), ast.Gt: (ast.GtE,),
}  # fmt: skip


def mutants() -> Iterator[tuple[str, Callable[[Question, Verb | None], tuple[str, ...]]]]:
    """Yield the module with one thing changed, each in turn."""
    tree = ast.parse(Path(constitution.__file__).read_text())
    number = 0
    while True:
        mutation = Mutation(number)
        changed = ast.fix_missing_locations(mutation.visit(copy.deepcopy(tree)))
        if not mutation.made:
            return
        names: dict[str, Any] = {"__name__": "mutant"}
        exec(compile(changed, "mutant", "exec"), names)
        yield mutation.made, names["forbidden"]
        number += 1


def test_every_small_change_of_the_rules_is_found():
    asked = [pair for number, pair in enumerate(space(kinds_of_verbs())) if number % 5 == 0]
    pairs: list[tuple[Question, Verb | None, set[str]]] = [(q, v, law(q, v)) for q, v in asked]
    pairs += [(asked[0][0], None, {"verb"})]
    survivors = []

    for made, forbidden in mutants():
        try:
            survived = all(set(forbidden(q, v)) == expected for q, v, expected in pairs)
        except (AttributeError, TypeError):
            survived = False
        if survived:
            survivors.append(made)

    assert "; ".join(survivors) == ""
