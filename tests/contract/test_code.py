"""What import-linter and ruff cannot say about the code."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from tests.support.source import python_files, text

Function: TypeAlias = ast.AsyncFunctionDef | ast.FunctionDef

# A verb that writes without a policy question or an audit event of its own, and why that is right.
EXCEPTIONS = {
    "audit.record": "it is the record",
    "audit.add_cosignature": "evidence that every node sends often; a wrong one is refused on record",
    "allocation.bind_gpus": "part of serving.register_run, which has asked and records the GPUs",
    "budgets.ask_allotments": "a gateway's share of a limit, every second; what is spent of it are events of metering",
    "factors.ask_passkey": "a question to the browser; its answer is an event",
    "fleet.record_report": "telemetry every five seconds; only what changes a decision is an event",
    "identity.forget_old_tokens": "digests of sessions that were over a day ago; nothing that counts goes",
    "identity.authenticate": "the look-up that a request begins with; a browser's use keeps its session awake",
    "identity.shut_until_enrolled": "part of role.grant and user.enrol, which have asked and record it",
    "health.record_proof": "telemetry; what it means is an incident, and that is an event",
    "jobs.take_output": "what a command writes; that it ended is an event",
    "keys.record_uses": "the coarse time of a use; the use itself is an event of metering",
    "metering.forget_spent": "part of budgets.forget_periods, which records it",
    "metering.record_used": "telemetry every few seconds, from the accounting that keeps it; it changes no decision",
    "pki.record_leaves": "telemetry; what it means is an incident, and that is an event",
    "shares.mark_chosen": "what the scheduler says it took; whoever asked for it is on record",
    "serving.beat": "a process says that it lives",
}
# The outermost loop of a process, where a broad `except` may stand (STYLE 11).
OUTERMOST = (
    "controlplane/main/",
    "controlplane/kit/loop.py",
    "controlplane/gateway/batch/batch_run.py",  # of one line among many
    "controlplane/gateway/batch/visit.py",  # of one request's task, where nobody else would answer
)
PURE = re.compile(r"controlplane/(?:contracts/|sitespec/|domains/\w+/(?:rules|types)(?:/\w+)?\.py)")
FILE_VERBS = {
    "open",
    "read_text",
    "read_bytes",
    "write_text",
    "write_bytes",
    "unlink",
    "mkdir",
    "iterdir",
    "glob",
    "stat",
}
BARE_EXCUSE = re.compile(
    r"#\s*noqa(?!: [A-Z0-9, ]+(?: -|  #) \S)|#\s*type:\s*ignore(?!\[[\w, -]+\] +\S)", re.IGNORECASE
)


def test_every_verb_that_writes_asks_the_policy_and_leaves_a_record():
    found = [
        finding
        for path in python_files("controlplane/domains")
        if "service" in (path.stem, path.parent.name)
        for finding in verb_gaps(_domain_of(path), text(path))
    ]

    assert found == []


def test_every_exception_for_a_verb_is_still_needed():
    verbs = {
        f"{_domain_of(path)}.{node.name}"
        for path in python_files("controlplane/domains")
        if "service" in (path.stem, path.parent.name)
        for node in ast.parse(text(path)).body
        if isinstance(node, ast.AsyncFunctionDef)
    }

    assert set(EXCEPTIONS) - verbs == set()


def test_a_verb_that_forgets_to_ask_or_to_record_is_found():
    source = """
async def end_lease(tx, actor, *, owner):
    await policy.require(tx, actor, "lease.end", owner)
    await _end(tx, owner)

async def _end(tx, owner):
    lease = await store.find_lease(tx, owner)
    lease.ended_at = tx.now

async def add_lease(tx, *, owner):
    store.add(tx, Lease(owner))
    await audit.record(tx, SYSTEM, "lease.added", owner)

async def list_leases(tx, actor):
    return await store.list_leases(tx)

async def good(tx, actor):
    await policy.require(tx, actor, "lease.mark", "site")
    await store.mark_all(tx)
    await audit.record(tx, actor, "lease.marked", "site")
"""

    assert list(verb_gaps("allocation", source)) == [
        "allocation.end_lease writes and records nothing",
        "allocation.add_lease asks no policy",
        "allocation.list_leases asks no policy",
    ]


def test_rules_types_contracts_and_site_spec_touch_no_file():
    found = [
        f"{path}:{line}"
        for path in python_files("controlplane")
        if PURE.match(str(path))
        for line in file_access(text(path))
    ]

    assert found == []


def test_file_access_is_found():
    source = "from pathlib import Path\nx = Path('a').read_text()\nwith open('b'):\n    pass\nok = {}.get('c')\n"

    assert list(file_access(source)) == [2, 3]


def test_a_broad_except_stands_only_outermost_in_a_process_or_in_a_task():
    found = [
        f"{path}:{number}"
        for path in python_files("controlplane")
        for number, line in enumerate(text(path).splitlines(), start=1)
        if "noqa: BLE001" in line and not str(path).startswith(OUTERMOST)
    ]

    assert found == []


def test_every_silenced_warning_says_which_and_why():
    sources = ((path, text(path)) for path in python_files("controlplane", "tests", "molecule", "images", "playbooks"))

    assert list(bare_excuses(sources)) == []


def test_a_silenced_warning_without_a_reason_is_found():
    lines = ["x = 1  # NO", "x = 1  # NO: E501", "x = 1  # NO: E501 - a URL", "x = f()  # type: IG"]
    source = "\n".join(lines).replace("NO", "noqa").replace("IG", "ignore")  # else this file would be found too

    found = list(bare_excuses([(Path("a.py"), source)]))

    assert found == ["a.py:1", "a.py:2", "a.py:4"]


def _domain_of(path: Path) -> str:
    """Return whose service this is; a big domain's service is a package."""
    return path.parts[path.parts.index("domains") + 1]


def verb_gaps(domain: str, source: str) -> Iterator[str]:
    """Yield what each public verb of a service lacks; what it calls in its own file counts as part of it."""
    functions = {n.name: n for n in ast.parse(source).body if isinstance(n, ast.AsyncFunctionDef | ast.FunctionDef)}
    for name, function in functions.items():
        if name.startswith("_") or f"{domain}.{name}" in EXCEPTIONS:
            continue
        body = list(_with_helpers(function, functions))
        calls = {ast.unparse(n.func) for part in body for n in ast.walk(part) if isinstance(n, ast.Call)}
        writes = any(_is_write(n) for part in body for n in ast.walk(part))
        takes_actor = any(argument.arg == "actor" for argument in function.args.args)
        if (writes or takes_actor) and domain not in {"audit", "policy"} and "policy.require" not in calls:
            yield f"{domain}.{name} asks no policy"
        if writes and ("record" if domain == "audit" else "audit.record") not in calls:
            yield f"{domain}.{name} writes and records nothing"


def _with_helpers(function: Function, functions: dict[str, Function]) -> Iterator[Function]:
    todo, seen = [function], {function.name}
    while todo:
        part = todo.pop()
        yield part
        called = {n.func.id for n in ast.walk(part) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        helpers = [name for name in functions if name in called - seen]
        seen.update(helpers)
        todo += [functions[name] for name in helpers]


def _is_write(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="store"), attr=verb)):
            return verb.startswith(("add", "mark", "delete"))
        case ast.Assign(targets=targets):
            parts = [p for t in targets for p in (t.elts if isinstance(t, ast.Tuple) else [t])]
            return any(isinstance(p, ast.Attribute) for p in parts)
        case ast.AugAssign(target=ast.Attribute()):
            return True
        case _:
            return False


def file_access(source: str) -> Iterator[int]:
    """Yield the lines that open, list or change a file."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id="open")):
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr=verb)) if verb in FILE_VERBS:
                yield node.lineno


def bare_excuses(sources: Iterable[tuple[Path, str]]) -> Iterator[str]:
    for path, source in sources:
        for number, line in enumerate(source.splitlines(), start=1):
            if BARE_EXCUSE.search(line):
                yield f"{path}:{number}"
