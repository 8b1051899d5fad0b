"""The walk: every play, role, module and requirement that a rendered site would use, and what they reach for."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # role inputs are free-form YAML

from controlplane.bundle.closure.commands import missing_wheels, normal
from controlplane.bundle.closure.documents import Mapping, read, roles_named
from controlplane.bundle.closure.finding import ANY, Finding, Held
from controlplane.bundle.closure.look import in_python, in_text, in_variables, in_yaml
from controlplane.bundle.closure.templates import resolved

PLAYS = "playbooks"
DISTRIBUTION, MAJOR = "Debian", "13"
YAML_FOLDERS = {"tasks", "handlers", "defaults", "vars"}
UNWALKED = {"meta/argument_specs.yml", "README.md"}  # what people read


@dataclass(frozen=True)
class Use:
    """What one node of a site uses: its roles, and the inputs that are rendered for it."""

    node: str
    roles: frozenset[str]
    inputs: dict[str, Any]


def find_gaps(root: Path, uses: Iterable[Use], held: Held) -> tuple[Finding, ...]:
    """Return everything that a site could fetch, install or contact and that is neither held nor declared."""
    nodes = tuple(uses)
    own = frozenset(path.stem for path in (root / PLAYS / "library").glob("*.py"))
    found = {
        *_plays(root, nodes, held, own),
        *(gap for role in _roles(root, nodes) for gap in _role(root, role, nodes, held, own)),
        *_product(root, held),
        *_requirements(root, nodes, held),
    }
    return tuple(sorted(found))


def _plays(root: Path, nodes: tuple[Use, ...], held: Held, own: frozenset[str]) -> Iterator[Finding]:
    for path in sorted((root / PLAYS).glob("*.yml")):
        yield from in_yaml(_name(root, path), path.read_text(), _values(nodes[0], {}), held, own)


def _roles(root: Path, nodes: tuple[Use, ...]) -> list[str]:
    """Return the roles in use: those of the nodes, those that plays for all nodes name, and those these bring in."""
    todo = {role for node in nodes for role in node.roles}
    for path in sorted((root / PLAYS).glob("*.yml")):
        for play in read(path.read_text()) or ():
            if isinstance(play, Mapping) and _is_used(str(play.get("hosts", "")), todo):
                todo |= {role for role in roles_named([play]) if role}
    seen: set[str] = set()
    while todo - seen:
        role = min(todo - seen)
        seen.add(role)
        for path in sorted((root / PLAYS / "roles" / role / "tasks").glob("*.yml")):
            todo |= {name for name in roles_named(read(path.read_text())) if name}
    return sorted(seen)


def _is_used(hosts: str, roles: set[str]) -> bool:
    groups = re.findall(r"role_(\w+)", hosts)
    return bool(hosts) and (not groups or bool(roles.intersection(groups)))


def _role(root: Path, role: str, nodes: tuple[Use, ...], held: Held, own: frozenset[str]) -> Iterator[Finding]:
    folder = root / PLAYS / "roles" / role
    variables = _variables(folder)
    includes = {path.name: path.read_text(errors="replace") for path in folder.glob("templates/*")}
    users = [node for node in nodes if role in node.roles] or list(nodes[:1])
    for node in users:
        values = _values(node, variables)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            yield from _file(root, folder, path, values, held, own, includes)


def _file(
    root: Path,
    folder: Path,
    path: Path,
    values: dict[str, Any],
    held: Held,
    own: frozenset[str],
    includes: dict[str, str],
) -> Iterator[Finding]:
    inner, name = path.relative_to(folder), _name(root, path)
    if inner.as_posix() in UNWALKED or "__pycache__" in inner.parts:
        return
    raw = path.read_bytes()
    if b"\0" in raw:
        yield Finding(name, 1, "file", "a binary, which nobody can look into")
        return
    text = raw.decode(errors="replace")
    if inner.parts[0] in YAML_FOLDERS:
        yield from in_yaml(name, text, values, held, own)
        if inner.parts[0] in {"defaults", "vars"}:
            yield from in_variables(name, text, values, held)
    elif path.suffix == ".py":
        yield from in_python(name, text, held)
    elif re.match(r"(?:.*-)?requirements.*\.txt", path.name):
        yield from _pins(name, text, held)
    else:
        yield from in_text(name, text, values, held, includes if inner.parts[0] == "templates" else {})


def _pins(name: str, text: str, held: Held) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith(("#", "-")):
            yield from (Finding(name, number, hit.kind, hit.what) for hit in missing_wheels([line.strip()], held))


def _product(root: Path, held: Held) -> Iterator[Finding]:
    """Look through the Python that nodes run besides the roles' own: modules, and the product itself."""
    for path in sorted((root / PLAYS).glob("*/*.py")):
        yield from in_python(_name(root, path), path.read_text(), held)
    for path in sorted((root / "controlplane").rglob("*.py")):
        yield from in_python(_name(root, path), path.read_text(), held)


def _requirements(root: Path, nodes: tuple[Use, ...], held: Held) -> Iterator[Finding]:
    """Hold the requirements of every extra that a node installs against the wheels of the lock."""
    path = root / "pyproject.toml"
    text = path.read_text()
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    wanted = list(project["dependencies"])
    for feature in sorted({str(name) for node in nodes for name in node.inputs.get("node_base_features", ())}):
        wanted += extras.get(feature, [f"{project['name']}[{feature}]"])
    for requirement in wanted:
        for hit in missing_wheels([requirement], held):
            if normal(hit.what) != project["name"]:
                line = next((n for n, one in enumerate(text.splitlines(), start=1) if requirement in one), 1)
                yield Finding(_name(root, path), line, hit.kind, hit.what)


def _variables(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("defaults/main.yml", "vars/main.yml", f"vars/{DISTRIBUTION}_{MAJOR}.yml"):
        path = folder / name
        found |= (read(path.read_text()) or {}) if path.is_file() else {}
    return found


def _values(node: Use, variables: dict[str, Any]) -> dict[str, Any]:
    facts = {"distribution": DISTRIBUTION, "distribution_major_version": MAJOR}
    known = {
        "ansible_check_mode": False,
        "ansible_facts": facts,
        "ansible_playbook_python": ANY,
        "inventory_hostname": node.node,
        "depot_bundle_archive": ANY,
        "practice_assets": ANY,
    }
    return resolved({**variables, **known, **node.inputs})


def _name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
