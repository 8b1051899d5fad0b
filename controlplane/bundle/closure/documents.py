"""YAML with the line of every text, so that a finding can name its place."""

from collections.abc import Iterator
from typing import Any  # YAML values have no narrower type

import yaml

# What only people read.
PROSE = {
    "name",
    "description",
    "short_description",
    "fail_msg",
    "success_msg",
    "msg",
    "label",
    "notify",
    "register",
    "tags",
}
# What Ansible reads as an expression without braces.
EXPRESSIONS = {"when", "until", "changed_when", "failed_when", "that", "var"}


class Text(str):
    """A text that knows its first line, counted from 1."""

    __slots__ = ("line",)
    line: int


class Mapping(dict[str, Any]):
    """A mapping that knows its first line."""

    line: int = 1


class _Loader(yaml.SafeLoader):
    """Every text and mapping with its line; a tag nobody knows is read as what it tags."""


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Text:
    found = Text(loader.construct_scalar(node))
    found.line = node.start_mark.line + (2 if node.style in {"|", ">"} else 1)
    return found


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Mapping:
    loader.flatten_mapping(node)
    found = Mapping({str(key): value for key, value in loader.construct_mapping(node, deep=True).items()})
    found.line = node.start_mark.line + 1
    return found


_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("!unsafe", _text)


def read(text: str) -> Any:
    """Return the document; raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with lines


def texts(value: Any, key: str = "") -> Iterator[tuple[str, Text]]:
    """Yield (key, text) for every text that a program reads."""
    if isinstance(value, dict):
        for name, item in value.items():
            if str(name) not in PROSE or isinstance(item, dict | list):
                yield from texts(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, key)
    elif isinstance(value, Text):
        yield key, value


def tasks(value: Any) -> Iterator[Mapping]:
    """Yield every task of a task file or of plays, those in blocks too."""
    for item in value if isinstance(value, list) else ():
        if not isinstance(item, Mapping):
            continue
        inner = [
            name
            for name in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")
            if name in item
        ]
        if not inner and "hosts" not in item and not any(str(name).endswith("import_playbook") for name in item):
            yield item
        for name in inner:
            yield from tasks(item[name])


def roles_named(value: Any) -> Iterator[str]:
    """Yield the roles that tasks and plays bring in."""
    for task in tasks(value):
        for module in ("import_role", "include_role"):
            given = task.get(f"ansible.builtin.{module}", task.get(module))
            if isinstance(given, dict):
                yield str(given.get("name", ""))
    for play in value if isinstance(value, list) else ():
        for role in play.get("roles", ()) if isinstance(play, dict) else ():
            yield str(role.get("role", role.get("name", "")) if isinstance(role, dict) else role)
