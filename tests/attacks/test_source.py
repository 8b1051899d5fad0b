"""What the faces may not do, read from their source: templates or programs from requests, the Host header."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.source import python_files, text

FACES = ("controlplane/api", "controlplane/console", "controlplane/web", "controlplane/domains")
# a program, an evaluator, a template from text, or an object from bytes: none of it has a place where requests arrive
DANGEROUS = {
    "eval", "exec", "compile", "__import__", "import_module", "Popen", "run_process", "create_subprocess_exec",
    "create_subprocess_shell", "system", "popen", "from_string", "Template", "render_template_string", "loads_pickle",
}  # fmt: skip
FORBIDDEN_MODULES = {"subprocess", "pickle", "marshal", "shelve", "runpy", "code", "ctypes", "dill", "cloudpickle"}
OUTGOING = {"httpx", "requests", "aiohttp", "urllib.request", "http.client", "socket", "smtplib", "ftplib"}
FROM_HOST = {"url", "base_url", "url_for"}


def test_no_face_starts_a_program_evaluates_text_or_unpickles():
    assert list(_found(dangerous_calls)) == []


def test_no_face_and_no_domain_fetches_an_address_that_a_request_could_name():
    assert list(_found(outgoing_imports)) == []


def test_no_face_reads_what_the_host_header_decides():
    assert list(_found(host_reads)) == []


def test_each_of_these_is_found():
    source = """
import subprocess
import httpx
from urllib.request import urlopen
env.from_string(body.text).render()
eval(body.code)
where = request.url.path
back = request.base_url
"""
    assert list(dangerous_calls(source)) == [2, 5, 6]
    assert sorted(outgoing_imports(source)) == [3, 4]
    assert sorted(host_reads(source)) == [7, 8]


def _found(look) -> Iterator[str]:
    for path in python_files(*FACES):
        yield from (f"{path}:{line}" for line in look(text(Path(path))))


def dangerous_calls(source: str) -> Iterator[int]:
    lines = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in DANGEROUS:
                if not _is_regex(node):
                    lines.add(node.lineno)
            case ast.Import(names=names) if FORBIDDEN_MODULES & {alias.name.split(".")[0] for alias in names}:
                lines.add(node.lineno)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN_MODULES:
                lines.add(node.lineno)
    yield from sorted(lines)


def _is_regex(node: ast.Call) -> bool:
    return ast.unparse(node.func) == "re.compile"


def outgoing_imports(source: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) if OUTGOING & {alias.name for alias in names}:
                yield node.lineno
            case ast.ImportFrom(module=str(module)) if module in OUTGOING:
                yield node.lineno


def host_reads(source: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="request"), attr=name) if name in FROM_HOST:
                yield node.lineno
