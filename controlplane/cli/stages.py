"""The stages of a site run: what each is made of, as a digest per node, and what must stay as it left it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any  # playbooks and role inputs are free-form YAML

import yaml

from controlplane.kit.canonical import canonical_json, sha256_hex
from controlplane.kit.errors import BadInput

Yaml = dict[str, Any]

REPOSITORY = Path(__file__).parents[2]
PLAYBOOKS = REPOSITORY / "playbooks"
FORMAT = 1  # of stamps: another number makes every stage due
SHARED = ("filter", "module_utils", "tasks")  # what every stage may use


@dataclass(frozen=True)
class Stage:
    """One play of site.yml. A copy is (file here, file there, the role input that names the node it comes from)."""

    name: str
    title: str
    group: str
    roles: tuple[str, ...]
    bundle: bool = False
    after: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    asks: tuple[tuple[str, ...], ...] = ()
    boot: bool = False
    copies: tuple[tuple[str, str, str], ...] = ()
    sources: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()

    @property
    def made(self) -> Yaml:
        """What the stamp keeps of a node's state."""
        return {"files": self.files, "units": self.units, "asks": self.asks, "boot": self.boot}


def read_stages(playbooks: Path = PLAYBOOKS) -> tuple[Stage, ...]:
    """Return the stages that site.yml imports, in order; a play that is not for a role's group is none."""
    imported = [play["ansible.builtin.import_playbook"] for play in _yaml(playbooks / "site.yml")]
    found = (_stage(playbooks, Path(name).stem) for name in imported)
    return tuple(stage for stage in found if stage)


def chosen_stages(stages: Iterable[Stage], only: Iterable[str], first: str | None) -> tuple[Stage, ...]:
    """Return the stages that were asked for, in their order; raises BadInput for a name that is none."""
    names = [stage.name for stage in stages]
    for name in (*only, *([first] if first else [])):
        if name not in names:
            raise BadInput(f"no stage is called {name}", remedy=f"name one of: {', '.join(names)}")
    start = names.index(first) if first else 0
    wanted = set(only) or set(names[start:])
    return tuple(stage for stage in stages if stage.name in wanted)


def wanted_on(
    host: str, stages: Iterable[Stage], inputs: Yaml, given: Mapping[str, str], bundle: str, playbooks: Path = PLAYBOOKS
) -> Yaml:
    """Return what the site asks of each stage on one node; `inputs` are its rendered variables."""
    return {
        stage.name: {
            "inputs": input_digest(stage, inputs, given, bundle, playbooks),
            "made": stage.made,
            "after": stage.after,
            "copies": [
                {"here": here, "there": there, "on": inputs[of]}
                for here, there, of in stage.copies
                if inputs.get(of, host) != host or here != there
            ],
        }
        for stage in stages
    }


def input_digest(stage: Stage, inputs: Yaml, given: Mapping[str, str], bundle: str, playbooks: Path = PLAYBOOKS) -> str:
    """Return the digest of everything that decides what a stage does on a node, other than the node itself."""
    own = {name: value for name, value in inputs.items() if name.startswith(tuple(f"{role}_" for role in stage.roles))}
    parts = {
        "format": FORMAT,
        "sources": source_digest(stage, playbooks),
        "inputs": own,
        "assets": {name: tree_digest(Path(given[name])) for name in stage.assets if name in given},
        "bundle": bundle if stage.bundle else "",
    }
    return sha256_hex(canonical_json(parts))


@cache
def source_digest(stage: Stage, playbooks: Path = PLAYBOOKS) -> str:
    """Return the digest of the play, its roles, and every module and shared file that it may use."""
    roles = [playbooks / "roles" / role for role in stage.roles]
    texts = "".join(path.read_text() for role in roles for path in sorted(role.rglob("*.yml")))
    modules = [path for path in sorted((playbooks / "library").glob("*.py")) if f" {path.stem}:" in texts]
    shared = [playbooks / name for name in SHARED]
    outside = [playbooks.parent / name for name in stage.sources]
    own = [playbooks / f"{stage.name}.yml", *roles, *modules, *shared, *outside]
    return sha256_hex("".join(f"{path.name} {tree_digest(path)}\n" for path in own).encode())


@cache
def tree_digest(root: Path) -> str:
    """Return the digest of a file, or of every file below a folder with its path."""
    digest = sha256()
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if _counts(path))
    for path in files:
        content = sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _counts(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def _stage(playbooks: Path, name: str) -> Stage | None:
    play = _yaml(playbooks / f"{name}.yml")[0]
    group, _, due = str(play["hosts"]).partition(":&")
    if due != f"due_{name}":
        return None
    imports = [task.get("ansible.builtin.import_role") for task in play["tasks"]]
    roles = tuple(dict.fromkeys(task["name"] for task in imports if task))
    return Stage(name=name, title=play["name"], group=group, roles=roles, **_stamped(playbooks, group))


def _stamped(playbooks: Path, group: str) -> Yaml:
    path = playbooks / "roles" / group.removeprefix("role_") / "meta" / "stamp.yml"
    declared: Yaml = _yaml(path) if path.is_file() else {}
    return {key: _frozen(value) for key, value in declared.items()}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())
