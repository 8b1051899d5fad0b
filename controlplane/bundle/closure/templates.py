"""Jinja as far as it can be known before the run: rendered with a host's inputs, and every literal folded."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any  # values of a template have no narrower type

from jinja2 import BaseLoader, ChainableUndefined, DictLoader, Environment, Template, TemplateError, nodes
from jinja2.sandbox import SandboxedEnvironment

from controlplane.bundle.closure.finding import ANY, UNKNOWN

MARK = re.compile("\x03(\\d+)\x04")
CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
Values = Mapping[str, Any]


class _Unknown(ChainableUndefined):
    """A value that only the run knows."""

    def __str__(self) -> str:
        return UNKNOWN


class _Passing(dict[str, Any]):
    """Filters and tests of Ansible that do not matter here hand their value on."""

    def __missing__(self, name: str) -> Any:
        return _first

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name, default or _first)

    def __contains__(self, name: object) -> bool:
        return True


def lines_of(text: str, values: Values, includes: Mapping[str, str] | None = None) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of everything a template may say: as written, rendered for one host, and its literals."""
    yield from enumerate(CODE.sub(_blank, text).split("\n"), start=1)
    if "{{" in text or "{%" in text:
        yield from _literals(text)
        yield from _rendered_lines(text, values, includes or {})


def rendered(text: str, values: Values) -> str:
    """Return a string as the run would see it; the parts that only the run knows are marked."""
    try:
        return _compiled(text).render(values) if "{" in text else text
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        return CODE.sub(UNKNOWN, text)


def resolved(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with the templates in them rendered; three rounds, for values that name values that name values."""
    for _ in range(3):
        values = {name: _deep(value, values) for name, value in values.items()}
    return values


def _deep(value: Any, values: Values) -> Any:
    if isinstance(value, str):
        return rendered(value, values)
    if isinstance(value, list):
        return [_deep(item, values) for item in value]
    if isinstance(value, dict):
        return {key: _deep(item, values) for key, item in value.items()}
    return value


def _rendered_lines(text: str, values: Values, includes: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    marked = _marked(text)
    try:
        said = _compiled(marked, tuple(sorted(includes.items()))).render(values)
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        yield from enumerate(CODE.sub(_unknown, text).split("\n"), start=1)
        return
    number = 1
    for line in said.split("\n"):
        if found := MARK.search(line):
            number = int(found.group(1))
        yield number, MARK.sub("", line)


def _marked(text: str) -> str:
    """Put the number of each line at its start, where that is outside Jinja's own marks."""
    inside = [(found.start(), found.end()) for found in CODE.finditer(text)]
    out, position = [], 0
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.lstrip().startswith("{%") or any(start < position < end for start, end in inside)
        out.append(line if bare else f"\x03{number}\x04{line}")
        position += len(line) + 1
    return "\n".join(out)


def _literals(text: str) -> Iterator[tuple[int, str]]:
    try:
        tree = _environment().parse(text)
    except TemplateError:
        return
    for node in tree.find_all((nodes.Const, nodes.Concat, nodes.Add)):
        if folded := _folded(node):
            yield node.lineno, folded


def _folded(node: nodes.Node) -> str:
    """Return a constant expression as text; what is not constant becomes a part that may be anything."""
    match node:
        case nodes.Const(value=str(value)):
            return value
        case nodes.Concat():
            return "".join(_folded(part) or ANY for part in node.nodes)
        case nodes.Add():
            return (_folded(node.left) or ANY) + (_folded(node.right) or ANY)
        case _:
            return ""


@lru_cache(maxsize=4096)
def _compiled(text: str, includes: tuple[tuple[str, str], ...] = ()) -> Template:
    return _environment(includes).from_string(text)


@lru_cache(maxsize=64)
def _environment(includes: tuple[tuple[str, str], ...] = ()) -> Environment:
    loader: BaseLoader = DictLoader(dict(includes))
    found = SandboxedEnvironment(undefined=_Unknown, trim_blocks=True, keep_trailing_newline=True, loader=loader)
    found.filters = _Passing(found.filters, extract=_extract, flatten=_flatten, basename=_basename)
    found.tests = _Passing(found.tests)
    found.globals |= {"lookup": _anything, "query": _anything, "now": _anything, "undef": _anything}
    return found


def _first(value: Any = "", *_: Any, **__: Any) -> Any:
    return value


def _anything(*_: Any, **__: Any) -> str:
    return ANY


def _extract(key: Any, container: Any) -> Any:
    return container.get(key, _Unknown()) if isinstance(container, dict) else _Unknown()


def _flatten(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in (_flatten(item) if isinstance(item, list | tuple) else [item])]


def _basename(value: Any) -> str:
    return str(value).rpartition("/")[2]


def _blank(found: re.Match[str]) -> str:
    return ANY + "\n" * found.group().count("\n")


def _unknown(found: re.Match[str]) -> str:
    return UNKNOWN + "\n" * found.group().count("\n")
