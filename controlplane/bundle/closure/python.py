"""Python that nodes run: what it imports, whom it connects to, and every text in it, by its syntax tree."""

import ast
import sys
from collections.abc import Iterator

from controlplane.bundle.closure.addresses import is_of_site
from controlplane.bundle.closure.commands import fetching, fetching_list
from controlplane.bundle.closure.finding import ANY, Detector, Held, Hit

# Calls whose first argument, or first part of a pair, is the machine that is spoken to.
CONNECTS = {
    "connect", "connect_ex", "create_connection", "open_connection", "HTTPConnection", "HTTPSConnection", "SMTP",
    "SMTP_SSL", "FTP", "FTP_TLS", "IMAP4", "POP3", "Telnet", "gethostbyname", "getaddrinfo", "sendto", "NTPClient",
}  # fmt: skip
RUNS = {
    "run",
    "Popen",
    "call",
    "check_call",
    "check_output",
    "system",
    "popen",
    "run_command",
    "create_subprocess_exec",
}


def python_hits(source: str, held: Held, texts: tuple[Detector, ...]) -> Iterator[tuple[int, Hit]]:
    """Yield (line, hit) for what a Python file imports, contacts, runs or names."""
    tree = ast.parse(source)
    prose = {id(node) for node in _prose(tree)}
    for node in ast.walk(tree):
        if id(node) in prose:
            continue
        yield from ((_line(node), hit) for hit in _node_hits(node, held, texts))


def _node_hits(node: ast.AST, held: Held, texts: tuple[Detector, ...]) -> Iterator[Hit]:
    match node:
        case ast.Import():
            yield from (hit for name in node.names for hit in _imports(name.name, held))
        case ast.ImportFrom(module=str(module), level=0):
            yield from _imports(module, held)
        case ast.Call():
            yield from _call_hits(node, held)
        case ast.List() | ast.Tuple():
            yield from fetching_list([folded(item) or ANY for item in node.elts])
    if text := folded(node):
        yield from (hit for line in text.split("\n") for detector in texts for hit in detector(line, held))


def _imports(module: str, held: Held) -> Iterator[Hit]:
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names and top not in held.imports:
        yield Hit("import", top)


def _call_hits(call: ast.Call, held: Held) -> Iterator[Hit]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    first = call.args[0] if call.args else None
    host = folded(first.elts[0] if isinstance(first, ast.Tuple) and first.elts else first)
    if name in CONNECTS and host and "/" not in host and not is_of_site(host, held):
        yield Hit("address", f"{name}({host!r})")
    if name in RUNS and (command := folded(first)):
        yield from fetching(command, held)
    if name == "import_module" and (module := folded(first)):
        yield from _imports(module, held)


def folded(node: ast.AST | None) -> str:
    """Return a text that is written in parts as one text; parts that are not constant may be anything."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(folded(part) or ANY for part in values)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return f"{folded(left) or ANY}{folded(right) or ANY}" if folded(left) or folded(right) else ""
        case ast.BinOp(op=ast.Mod(), left=left):
            return folded(left).replace("%s", ANY).replace("%d", ANY)
        case ast.Call(func=ast.Attribute(value=joint, attr="join"), args=[ast.List() | ast.Tuple() as parts]):
            return folded(joint).join(folded(part) or ANY for part in parts.elts)
        case ast.Call(func=ast.Attribute(value=text, attr="format")):
            return folded(text).replace("{}", ANY)
        case _:
            return ""


def _prose(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the texts that only people read: docstrings and what documents a module of Ansible."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in {
            "DOCUMENTATION",
            "EXAMPLES",
            "RETURN",
        }:
            yield node.value


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 1))
