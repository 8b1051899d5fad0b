"""What each kind of file is asked: YAML of Ansible, templates and scripts, Python."""

from collections.abc import Iterator, Mapping

import yaml

from controlplane.bundle.closure import addresses, commands, configuration
from controlplane.bundle.closure.documents import EXPRESSIONS, Text, read, tasks, texts
from controlplane.bundle.closure.finding import Detector, Finding, Held, Hit
from controlplane.bundle.closure.python import python_hits
from controlplane.bundle.closure.tasks import lookups, named_things, task_hits
from controlplane.bundle.closure.templates import Values, lines_of

ADDRESSES: tuple[Detector, ...] = (addresses.urls, addresses.names, addresses.numbers)
SETTINGS: tuple[Detector, ...] = (
    configuration.package_sources,
    configuration.time_sources,
    configuration.proxies,
    configuration.weights,
)
NODE_SETTINGS: tuple[Detector, ...] = (
    *SETTINGS,
    configuration.name_servers,
    configuration.resolver_files,
    configuration.images,
)
UNREAD = ("Description=",)


def in_yaml(path: str, text: str, values: Values, held: Held, own: frozenset[str]) -> Iterator[Finding]:
    """Yield the findings of tasks, handlers, plays or variables."""
    try:
        document = read(text)
    except yaml.YAMLError:
        yield Finding(path, 1, "file", "not YAML, so nobody can say what it does")
        return
    for task in tasks(document):
        yield from (Finding(path, task.line, hit.kind, hit.what) for hit in task_hits(task, values, held, own))
    for key, value in texts(document):
        yield from _in_scalar(path, key, value, values, held)


def in_variables(path: str, text: str, values: Values, held: Held) -> Iterator[Finding]:
    """Yield what the variables of a role name: packages, images, models."""
    document = read(text) or {}
    for key, value in document.items() if isinstance(document, dict) else ():
        line = next(iter(found.line for _, found in texts({key: value})), 1)
        yield from (Finding(path, line, hit.kind, hit.what) for hit in named_things(str(key), value, values, held))


def in_text(path: str, text: str, values: Values, held: Held, includes: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings of a template, unit file, script or setting."""
    detectors = (*ADDRESSES, *NODE_SETTINGS, commands.fetching)
    for number, line in lines_of(text, values, includes):
        if not configuration.is_comment(line) and not line.startswith(UNREAD):
            yield from _placed(path, number, line, held, detectors)
    yield from _lookups(path, 1, text)


def in_python(path: str, text: str, held: Held) -> Iterator[Finding]:
    """Yield the findings of a Python file."""
    try:
        hits = list(python_hits(text, held, (*ADDRESSES, *SETTINGS)))
    except SyntaxError as error:
        hits = [(error.lineno or 1, Hit("file", "not Python, so nobody can say what it does"))]
    yield from (Finding(path, line, hit.kind, hit.what) for line, hit in hits)


def _in_scalar(path: str, key: str, value: Text, values: Values, held: Held) -> Iterator[Finding]:
    written = f"{{{{ {value} }}}}" if key in EXPRESSIONS and "{{" not in value else str(value)
    detectors = (*ADDRESSES, *NODE_SETTINGS, *((commands.fetching,) if key in {"content", "block"} else ()))
    for number, line in lines_of(written, values):
        if not configuration.is_comment(line):
            yield from _placed(path, value.line + number - 1, line, held, detectors)
    yield from _lookups(path, value.line, written)


def _lookups(path: str, line: int, text: str) -> Iterator[Finding]:
    for number, one in enumerate(text.split("\n"), start=line):
        yield from (Finding(path, number, hit.kind, hit.what) for hit in lookups(one))


def _placed(path: str, number: int, line: str, held: Held, detectors: tuple[Detector, ...]) -> Iterator[Finding]:
    for detector in detectors:
        yield from (Finding(path, number, hit.kind, hit.what) for hit in detector(line, held))
