"""Every verb that is asked for stands in the table, and every verb of the table is asked for somewhere."""

import ast
from collections.abc import Iterator

from controlplane.domains.policy.rules.verbs import VERBS
from tests.support.source import python_files, text


def test_every_verb_that_is_asked_for_is_in_the_table():
    asked = [
        (f"{path}:{line}", verb)
        for path in python_files("controlplane")
        for line, verb in asked_verbs(text(path))
        if "domains/policy/" not in str(path)
    ]

    assert [place for place, verb in asked if verb not in VERBS] == []


def test_a_verb_that_is_not_in_the_table_or_not_written_out_is_found():
    source = 'await policy.require(tx, actor, "lease.read", "site")\nawait policy.require(tx, actor, verb, x)\n'

    assert list(asked_verbs(source)) == [(1, "lease.read"), (2, None)]


def asked_verbs(source: str) -> Iterator[tuple[int, str | None]]:
    """Yield line and verb of each question; None where the verb is no literal."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="policy"), attr="require"), args=[_, _, verb, *_]):
                literal = verb.value if isinstance(verb, ast.Constant) else None
                yield node.lineno, literal if isinstance(literal, str) else None
