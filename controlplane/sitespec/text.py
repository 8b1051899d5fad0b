"""From the text of `site.yml` to a `Site`, or to problems that each name their line."""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any  # YAML values have no narrower type

import yaml
from pydantic import BaseModel, ValidationError

from controlplane.kit.errors import BadInput
from controlplane.sitespec.spec import Contradictions, Site

Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing to correct. `line` counts from 1."""

    line: int
    where: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.where}: {self.cause}; {self.remedy}"


class WrongSpec(BadInput):
    """The site spec is refused; every problem has its line."""

    def __init__(self, name: str, problems: tuple[Problem, ...]) -> None:
        first, more = problems[0], len(problems) - 1
        detail = f"{name}:{first.line}: {first.where}: {first.cause}" + (f" (and {more} more)" if more else "")
        reasons = tuple(str(problem) for problem in problems)
        super().__init__(detail, remedy=first.remedy, code="wrong_site_spec", reasons=reasons)
        self.problems = problems


def parse_site(text: str, *, name: str = "site.yml") -> Site:
    """Return the site; raises WrongSpec with every problem and its line."""
    tree = _compose(text, name)
    lines = _Lines(tree)
    repeated = tuple(_repeated_keys(tree))
    if repeated:
        raise WrongSpec(name, repeated)
    try:
        return Site.model_validate_json(json.dumps(yaml.safe_load(text), default=str), strict=True)
    except ValidationError as error:
        entries = error.errors()
        misspelt = {_nearest(entry["loc"]) for entry in entries if entry["type"] == "extra_forbidden"}
        told = [entry for entry in entries if entry["type"] != "missing" or entry["loc"] not in misspelt]
        problems = tuple(problem for entry in told for problem in _problems(lines, entry))
        raise WrongSpec(name, tuple(sorted(problems, key=lambda problem: problem.line))) from None


def _compose(text: str, name: str) -> yaml.Node:
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = Problem(mark.line + 1 if mark else 1, "file", f"not YAML: {error.problem}", "correct that line")
        raise WrongSpec(name, (problem,)) from None
    if not isinstance(tree, yaml.MappingNode):
        raise WrongSpec(name, (Problem(1, "file", "no keys in it", "start from inventory/example/site.yml"),))
    return tree


class _Lines:
    """Where each value of a YAML tree stands."""

    def __init__(self, tree: yaml.Node) -> None:
        self._tree = tree

    def of(self, where: Where, *, key: bool = False) -> int:
        """Return the line of a value (or of its key), or of the nearest parent that is there."""
        node, line = self._tree, self._tree.start_mark.line + 1
        for step in where:
            found = _child(node, step)
            if found is None:
                break
            name_node, node = found
            line = (name_node if key or isinstance(node, yaml.CollectionNode) else node).start_mark.line + 1
        return line


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((k, v) for k, v in node.value if k.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _repeated_keys(node: yaml.Node, where: Where = ()) -> list[Problem]:
    problems: list[Problem] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                spot = _spell((*where, key.value))
                problems.append(Problem(key.start_mark.line + 1, spot, "the key is there twice", "remove one of them"))
            seen.add(key.value)
            problems += _repeated_keys(value, (*where, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            problems += _repeated_keys(value, (*where, index))
    return problems


def _problems(lines: _Lines, entry: Any) -> list[Problem]:
    where: Where = entry["loc"]
    error = entry.get("ctx", {}).get("error")
    if isinstance(error, Contradictions):
        return [Problem(lines.of(spot), _spell(spot), cause, remedy) for spot, cause, remedy in error.problems]
    if entry["type"] == "extra_forbidden":
        return [Problem(lines.of(where, key=True), _spell(where), "unknown key", _suggestion(where))]
    if entry["type"] == "missing":
        remedy = f"add `{where[-1]}:` ({_describe(where)})" if _describe(where) else f"add `{where[-1]}:`"
        return [Problem(lines.of(where), _spell(where), "is missing", remedy)]
    cause = f"{entry['input']!r} will not do: {entry['msg'][:1].lower()}{entry['msg'][1:]}"
    return [Problem(lines.of(where), _spell(where), cause, _describe(where) or "correct the value")]


def _suggestion(where: Where) -> str:
    near = _nearest(where)
    return f"did you mean `{near[-1]}`?" if near else f"known here: {', '.join(_kind(where[:-1]).model_fields)}"


def _nearest(where: Where) -> Where | None:
    """Return the place of the known key that an unknown one resembles."""
    near = get_close_matches(str(where[-1]), list(_kind(where[:-1]).model_fields), n=1)
    return (*where[:-1], near[0]) if near else None


def _describe(where: Where) -> str:
    field = _kind(where[:-1]).model_fields.get(str(where[-1])) if where else None
    return (field.description or "").rstrip(".") if field else ""


def _kind(where: Where) -> type[BaseModel]:
    """Return the model that holds the keys at a place of the tree."""
    kind: type[BaseModel] = Site
    for step in where:
        field = kind.model_fields.get(str(step))
        inner = _model_in(field.annotation) if field else None
        kind = inner or kind
    return kind


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _model_in(part))), None)


def _spell(where: Where) -> str:
    spelt = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return spelt.lstrip(".") or "site"
